"""What a person sees while kfp's local runner works: the steps, their own lines, and nothing of the machinery.

kfp logs the machinery through the root logger and prints the steps' output to stdout. A filter on that logger
follows the steps; a stream in front of stdout keeps everything in a log file and shows what is worth showing.
"""

import contextlib
import io
import logging
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from kfp.local import logging_utils

_COLOR = re.compile(r"\x1b\[\d+m")
_STARTED = re.compile(r"Executing task '(?P<step>[^']+)'")
# What TensorFlow notes about CPUs and GPUs before its log level is heeded. Python's own errors look otherwise.
_NATIVE_NOTE = re.compile(r"[EIW]\d{4} |WARNING: All log messages before absl|To enable the following instructions")
_SUCCEEDED = re.compile(r"Task '(?P<step>[^']+)' finished with status SUCCESS")


class StepLog(logging.Filter):
    """Follows kfp's log: announces each step, and takes its time.

    Attributes:
        seconds: wall time of each finished step, in the order of their first ends; of all together where a loop runs
            one several times.
        running: the step under way, or that failed; None before the first.
    """

    def __init__(self, console: "Console"):
        super().__init__()
        self.seconds: dict[str, float] = {}
        self.running: str | None = None
        self._console = console
        self._started: dict[tuple[str, int | None], float] = {}  # by thread, since kfp runs a loop's steps side by side

    def filter(self, record: logging.LogRecord) -> bool:
        """Turn kfp's record into a line of our own, or none; the record itself is never shown."""
        message = _COLOR.sub("", record.getMessage())
        self._console.log(message + "\n")
        if match := _STARTED.search(message):
            self.running = match["step"]
            self._started[self.running, record.thread] = time.monotonic()
            self._console.show(f"── {self.running}\n")
        elif match := _SUCCEEDED.search(message):
            step = match["step"]
            seconds = time.monotonic() - self._started[step, record.thread]
            self.seconds[step] = round(self.seconds.get(step, 0) + seconds, 1)
            self._console.show(f"   {step} took {seconds:.1f} s\n")
        return False


class _Output(threading.local):
    """What one thread has printed so far, since kfp runs a loop's steps side by side."""

    line = ""  # the start of a line whose end is to come
    in_executor_input = False


class Console(io.TextIOBase):
    """Stands in for stdout: all of it to `log_file`, the lines that steps print themselves to `terminal`.

    Attributes:
        error: the last line that a step ended in, `error: …`, or None.
    """

    def __init__(self, terminal: TextIO, log_file: TextIO):
        self.error: str | None = None
        self._terminal = terminal
        self._log_file = log_file
        self._output = _Output()

    def write(self, text: str) -> int:
        """Take what kfp or a step prints; complete lines are logged and, if a step's own, shown."""
        *lines, self._output.line = (self._output.line + text).split("\n")
        for line in lines:
            self.log(line + "\n")
            if self._is_from_step(line):
                self.show(f"    {line.rstrip()}\n")
        return len(text)

    def show(self, text: str) -> None:
        """Write to the terminal at once."""
        self._terminal.write(text)
        self._terminal.flush()

    def log(self, text: str) -> None:
        """Write to the log file."""
        self._log_file.write(text)
        self._log_file.flush()

    def _is_from_step(self, line: str) -> bool:
        """Whether a line is a step's own, and not kfp's rule, its blank line, or its dump of the inputs."""
        if self._output.in_executor_input:
            self._output.in_executor_input = line.rstrip() != "}"
            return False
        line = line.strip()
        if line.startswith("[KFP Executor"):
            self._output.in_executor_input = line.endswith("Got executor_input:")
            return False
        if line.startswith("error: "):
            self.error = line.removeprefix("error: ")
            return False
        return bool(line.strip("-")) and not _NATIVE_NOTE.match(line)


@contextlib.contextmanager
def _no_indented_print() -> Iterator[None]:
    """Keep kfp from indenting what steps print: it replaces `builtins.print` for that, and steps that run side by side
    put it back in the wrong order, so that the whole process printed indented ever after."""
    indented_print = logging_utils.indented_print
    logging_utils.indented_print = lambda: contextlib.nullcontext()
    try:
        yield
    finally:
        logging_utils.indented_print = indented_print


@contextlib.contextmanager
def following(log_path: Path) -> Iterator[tuple[Console, StepLog]]:
    """Put the console in front of stdout and follow kfp's log for the time of a run."""
    root = logging.getLogger()
    with log_path.open("w") as log_file:
        console = Console(sys.stdout, log_file)
        steps = StepLog(console)
        root.addFilter(steps)
        try:
            with _no_indented_print(), contextlib.redirect_stdout(console):
                yield console, steps
        finally:
            root.removeFilter(steps)
