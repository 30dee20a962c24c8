"""The process of a step: logging to stdout, and one-line errors."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

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
    for package in _PACKAGES:
        logger = logging.getLogger(package)
        logger.handlers[:] = [_StdoutHandler()]
        logger.setLevel(logging.INFO)
        logger.propagate = False


@contextmanager
def step_process() -> Iterator[None]:
    """Configure logging, and run a step under `exit_on_input_error` that ends with the process that started it."""
    exit_with_parent()
    configure_logging()
    with exit_on_input_error():
        yield
