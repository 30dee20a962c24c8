"""TensorFlow's start without its notes on CPU instructions and missing GPU drivers."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def suppress_native_log() -> Iterator[None]:
    """Keep what libraries write to file descriptor 2, and show it only if the block fails.

    TensorFlow writes these lines before its log is set up, so that `TF_CPP_MIN_LOG_LEVEL` has no say in them.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as notes:
        os.dup2(notes.fileno(), 2)
        try:
            yield
        except BaseException:
            notes.seek(0)
            os.write(terminal, notes.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
