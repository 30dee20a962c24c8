"""What surrounds the work of every step: logging to stdout, and errors in one line."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from components.runtime.errors import exit_on_input_error

_PACKAGES = ("components", "pipelines", "serving")


class _StdoutHandler(logging.StreamHandler):
    """Writes bare messages, from WARNING on with their level in front, to whatever `sys.stdout` is at the time."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stdout

    def format(self, record: logging.LogRecord) -> str:
        message = super().format(record)
        return message if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {message}"


def configure_logging() -> None:
    """Show this project's messages from INFO on, each once: kfp's executor would show them again, with a prefix."""
    for package in _PACKAGES:
        logger = logging.getLogger(package)
        logger.handlers[:] = [_StdoutHandler()]
        logger.setLevel(logging.INFO)
        logger.propagate = False


@contextmanager
def step_process() -> Iterator[None]:
    """Run a step's work: configure logging, and end a user's mistake in one line, see `exit_on_input_error`."""
    configure_logging()
    with exit_on_input_error():
        yield
