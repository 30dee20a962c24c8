"""The process of a step: logging to stdout, and one-line errors."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from components.runtime.errors import exit_on_input_error

_PACKAGES = ("components", "pipelines", "serving")


class _StdoutHandler(logging.StreamHandler):
    """Write bare messages to the current `sys.stdout`, prefixed with their level from WARNING on."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stdout

    def format(self, record: logging.LogRecord) -> str:
        message = super().format(record)
        return message if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {message}"


def configure_logging() -> None:
    """Log this project's messages from INFO on to stdout, without the duplicates of kfp's root logger."""
    for package in _PACKAGES:
        logger = logging.getLogger(package)
        logger.handlers[:] = [_StdoutHandler()]
        logger.setLevel(logging.INFO)
        logger.propagate = False


@contextmanager
def step_process() -> Iterator[None]:
    """Configure logging and run a step under `exit_on_input_error`."""
    configure_logging()
    with exit_on_input_error():
        yield
