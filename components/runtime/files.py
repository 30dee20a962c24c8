"""Atomic writes and digests of files."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`, a file or a folder; rename it on success, remove it on failure.

    An existing file at `path` is replaced; an existing folder is removed just before the rename. The temporary name
    starts with a dot and is neither a number nor a `.nii.gz`: searches for versions or volumes never match it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    _remove(temporary)  # from a killed process; process ids repeat in containers
    try:
        yield temporary
        if temporary.is_dir() and path.is_dir():
            _remove(path)
        os.replace(temporary, path)
    finally:
        _remove(temporary)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new, empty folder that `atomic_write` renames to `path`."""
    with atomic_write(path) as temporary:
        temporary.mkdir()
        yield temporary


def sha256_of(path: Path) -> str:
    """Compute the hexadecimal SHA-256 digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
