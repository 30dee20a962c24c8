"""Full disks, as TensorFlow reports them."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

_CODES = {os.strerror(code): code for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)}
# `IOError` in tsl/platform/errors.cc: the path, and the text of the error.
_MESSAGE = re.compile(rf"^(?:\{{\{{.*?\}}\}} )?(.*); ({'|'.join(map(re.escape, _CODES))})", re.MULTILINE)


@contextmanager
def translate_disk_errors() -> Iterator[None]:
    """Raise Python's `OSError` for a full disk where TensorFlow writes; its own error looks like exhausted memory."""
    try:
        yield
    except tf.errors.OpError as error:
        match = _MESSAGE.search(error.message)
        if not match:
            raise
        raise OSError(_CODES[match[2]], match[2], match[1]) from error
