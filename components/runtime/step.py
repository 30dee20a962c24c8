"""The process of a step: logging to stdout, and one-line errors."""

import io
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.runtime.child_process import exit_with_parent
from components.runtime.errors import exit_on_input_error

_PACKAGES = ("components", "pipelines", "serving")


class _StdoutHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Print the bare message, prefixed with its level from WARNING on."""
        prefix = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        print(f"{prefix}{self.format(record)}", flush=True)


def configure_logging() -> None:
    """Log this project's messages from INFO on to stdout, without the duplicates of kfp's root logger."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be of other bytes than UTF-8
    for package in _PACKAGES:
        logger = logging.getLogger(package)
        logger.handlers[:] = [_StdoutHandler()]
        logger.setLevel(logging.INFO)
        logger.propagate = False


def _ensure_home() -> None:
    """Set HOME for a user without an entry in passwd, as in pods with an arbitrary uid; libraries look it up."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = tempfile.gettempdir()


@contextmanager
def step_process() -> Iterator[None]:
    """Configure logging, and run a step under `exit_on_input_error` that ends with the process that started it."""
    exit_with_parent()
    _ensure_home()
    configure_logging()
    with exit_on_input_error():
        yield
