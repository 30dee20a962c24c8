"""Console output of a local run: the steps and their own lines, without kfp's.

kfp logs to the root logger and prints the output of steps to stdout. A filter on that logger tracks the steps; a
stream in place of stdout writes everything to a log file and shows the steps' lines.
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
from unittest import mock

from kfp.local import logging_utils

_COLOR = re.compile(r"\x1b\[\d+m")
_STARTED = re.compile(r"Executing task '(?P<step>[^']+)'")
# Notes on CPUs and GPUs that TensorFlow writes before its log level takes effect.
_NATIVE_NOTE = re.compile(r"[EIW]\d{4} |WARNING: All log messages before absl|To enable the following instructions")
_FINISHED = re.compile(r"Task '(?P<step>[^']+)' finished with status (?P<status>SUCCESS|FAILURE)")


class StepLog(logging.Filter):
    """A filter on kfp's log that announces and times the steps.

    Args:
        console: where to announce them.
        seconds: receives the wall time of each finished step, in the order of their first ends, summed over a loop's
            iterations.

    Attributes:
        failure: the first step that failed and its error, None without a message; None if no step failed.
    """

    def __init__(self, console: "Console", seconds: dict[str, float]):
        super().__init__()
        self.failure: tuple[str, str | None] | None = None
        self._console = console
        self._seconds = seconds
        self._started: dict[int | None, float] = {}  # by thread: a loop's iterations run in parallel

    def filter(self, record: logging.LogRecord) -> bool:
        """Write the record to the log file, show the start and end of steps, and drop it."""
        message = _COLOR.sub("", record.getMessage())
        self._console.log(message)
        if match := _STARTED.search(message):
            self._started[record.thread] = time.monotonic()
            self._console.show(f"── {match['step']}")
        elif match := _FINISHED.search(message):
            step, error = match["step"], self._console.end_step()
            seconds = time.monotonic() - self._started[record.thread]
            if match["status"] == "FAILURE":
                self.failure = self.failure or (step, error)
            else:
                self._seconds[step] = round(self._seconds.get(step, 0) + seconds, 1)
                self._console.show(f"   {step} took {seconds:.1f} s")
        return False


class _Output(threading.local):
    """Output state of one thread, because kfp runs a loop's iterations in parallel."""

    line = ""  # an incomplete line
    error: str | None = None  # message of the step's last `error: …` line
    in_executor_input = False


class Console(io.TextIOBase):
    """A stream in place of stdout: writes everything to `log_file`, and the steps' own lines to `terminal`."""

    def __init__(self, terminal: TextIO, log_file: TextIO):
        self._terminal = terminal
        self._log_file = log_file
        self._output = _Output()

    def write(self, text: str) -> int:
        """Log complete lines, and show them if a step printed them."""
        *lines, self._output.line = (self._output.line + text).split("\n")
        for line in lines:
            self.log(line)
            if self._is_from_step(line):
                self.show(f"    {line.rstrip()}")
        return len(text)

    def show(self, line: str) -> None:
        """Write a line to the terminal."""
        with contextlib.suppress(BrokenPipeError):  # the reader, such as `head`, is gone; the run goes on
            print(line, file=self._terminal, flush=True)

    def log(self, line: str) -> None:
        """Write a line to the log file."""
        print(line, file=self._log_file, flush=True)

    def end_step(self) -> str | None:
        """Complete the last line of this thread's step, and return the message of its last `error: …` line."""
        if self._output.line:
            self.write("\n")
        error, self._output.error = self._output.error, None
        return error

    def _is_from_step(self, line: str) -> bool:
        """Whether a step printed the line; kfp prints rules, blank lines and a dump of the inputs."""
        if self._output.in_executor_input:
            self._output.in_executor_input = line.rstrip() != "}"
            return False
        line = line.strip()
        if line.startswith("[KFP Executor"):
            self._output.in_executor_input = line.endswith("Got executor_input:")
            return False
        if line.startswith("error: "):
            self._output.error = line.removeprefix("error: ")
            return False
        return bool(line.strip("-")) and not _NATIVE_NOTE.match(line)


@contextlib.contextmanager
def capture_output(log_path: Path, seconds: dict[str, float]) -> Iterator[StepLog]:
    """Capture stdout and kfp's log during a run; yield the step log, which adds to `seconds`."""
    root = logging.getLogger()
    with (
        log_path.open("w") as log_file,
        contextlib.redirect_stdout(Console(sys.stdout, log_file)) as console,
        # kfp replaces `builtins.print` to indent output, but parallel steps restore it in the wrong order.
        mock.patch.object(logging_utils, "indented_print", contextlib.nullcontext),
    ):
        steps = StepLog(console, seconds)
        root.addFilter(steps)
        try:
            yield steps
        finally:
            root.removeFilter(steps)
