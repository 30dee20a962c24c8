"""Atomic writes and digests of files."""

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path

from components.runtime.errors import InputError

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # raised by writes, without a file name


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`, a file or a folder; rename it on success, remove it on failure.

    An existing file at `path` is replaced; an existing folder is removed just before the rename. The temporary name
    starts with a dot and is neither a number nor a `.nii.gz`: searches for versions or volumes never match it. Its
    length does not depend on that of `path`, which may be the longest that the file system takes.

    Raises:
        InputError: `path` cannot be written.
    """
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(temporary)  # from a killed process; process ids repeat in containers
        yield temporary
        if temporary.is_dir() and path.is_dir():
            _remove(path)
        os.replace(temporary, path)
    except OSError as error:
        if not _is_write_error(error, temporary):
            raise
        raise _unwritable(path, error) from error
    finally:
        _remove(temporary)


def check_writable(path: Path) -> None:
    """Raise `InputError` if `atomic_write` cannot write a file at `path`; create its folder."""
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        if path.is_dir():  # raises for a name that is too long
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        _remove(temporary)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new, empty folder that `atomic_write` renames to `path`."""
    with atomic_write(path) as temporary:
        temporary.mkdir()
        yield temporary


def check_folder_writable(folder: Path) -> None:
    """Raise `InputError` unless a folder, which need not exist, can be written; leave nothing behind."""
    missing = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".writable-", dir=folder):
            pass
    except OSError as error:
        reason = "not a folder" if isinstance(error, FileExistsError | NotADirectoryError) else error.strerror
        raise InputError(
            f"{folder}: cannot be written ({reason}); choose another folder, or correct the permissions"
        ) from None
    finally:
        for path in missing:
            with suppress(OSError):
                path.rmdir()


def sha256_of(path: Path) -> str:
    """Compute the hexadecimal SHA-256 digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _temporary(path: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()
    return path.with_name(f".{digest[:12]}.{os.getpid()}.partial")


def _unwritable(path: Path, error: OSError) -> InputError:
    if error.errno in _DISK_FULL:  # whatever the file: temporary folders have hidden names
        folder = Path(*takewhile(lambda part: not part.startswith("."), path.parts))
        return InputError(f"{folder}: cannot be written ({error.strerror}); free disk space")
    return InputError(f"{path}: cannot be written ({error.strerror}); choose another name or folder")


def _is_write_error(error: OSError, temporary: Path) -> bool:
    """Whether an error is of the temporary file, of a folder that should hold it, or of a full disk."""
    if error.filename is None:
        return error.errno in _DISK_FULL
    path = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes | os.PathLike) else None
    return path is not None and (temporary in (path, *path.parents) or path in temporary.parents)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):  # of a folder that cannot be written, where nothing is to remove
            path.unlink()
