"""The processes and containers of a local run's steps: a signal to the run ends them."""

import contextlib
import signal
import subprocess
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

from components.runtime.child_process import end_child, start_child

_SIGNAL_STATUS = 128  # a shell exits with this plus the number of the signal that ended its command


class RunningSteps:
    """The running steps, in processes or containers.

    Args:
        temporary: folder for the temporary files of processes.
    """

    def __init__(self, temporary: str):
        self._temporary = temporary
        self._ends: dict[Hashable, Callable[[], Any]] = {}
        self._interrupted = False

    def add(self, key: Hashable, end: Callable[[], Any]) -> None:
        """Register a running step, and the function that ends it.

        Raises:
            RuntimeError: the run was interrupted; kfp's threads would go on with a loop's next iteration.
        """
        self._ends[key] = end
        if self._interrupted:
            end()
            raise RuntimeError("the run was interrupted")

    def remove(self, key: Hashable) -> None:
        """Forget a step that ended."""
        self._ends.pop(key, None)

    def run(self, full_command: Sequence[str], env_vars: dict[str, str] | None = None) -> int:
        """Run a step in a process, print its output and return its exit status; replaces kfp's function."""
        # On a cluster, TRAIN_GPUS belongs to the pipeline; here, it would be another program's.
        environment = {**(env_vars or {}), "TMPDIR": self._temporary, "TRAIN_GPUS": ""}
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "bufsize": 1, "errors": "replace"}
        with start_child(full_command, environment, **output) as child:
            self.add(child.pid, lambda: end_child(child))
            try:
                assert child.stdout is not None
                for line in child.stdout:
                    print(line, end="")
                status = child.wait()
            finally:
                self.remove(child.pid)
        number = -status if status < 0 else status - _SIGNAL_STATUS
        if number in signal.valid_signals() and not self._interrupted:
            print(f"\nerror: ended by {signal.Signals(number).name}; if memory ran out, use a smaller BATCH_SIZE")
        return status

    @contextlib.contextmanager
    def end_on_signal(self) -> Iterator[None]:
        """On SIGINT, SIGTERM or SIGHUP end all steps and raise `KeyboardInterrupt` with the signal's number."""

        def interrupt(number: int, _: Any) -> None:
            self._interrupted = True
            for end in list(self._ends.values()):
                with contextlib.suppress(Exception):  # an engine that fails to end one container ends the others
                    end()
            raise KeyboardInterrupt(number)

        numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
        numbers = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]  # nohup ignores SIGHUP
        previous = {number: signal.signal(number, interrupt) for number in numbers}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
