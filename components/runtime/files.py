"""Files and folders that are either whole or absent under their final name."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, a file or a folder; rename it on success, remove it otherwise.

    What stood under `path` before is replaced; an earlier folder makes way a moment before the rename. The
    temporary name starts with a dot and is neither a number nor a `.nii.gz`, so that nothing that looks for
    finished work takes it for that.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    # A killed process leaves its own, and in a container every process has the same number.
    _remove(temporary)
    try:
        yield temporary
        if temporary.is_dir() and path.is_dir():
            _remove(path)
        os.replace(temporary, path)
    finally:
        _remove(temporary)


def sha256_of(path: Path) -> str:
    """The hexadecimal SHA-256 digest of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
