"""Publishing a version under a number of its own: `<model base>/<integer>/`, whole or not at all, never overwritten."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from components.runtime.errors import InputError
from components.storage.gcs import ObjectExistsError, download_prefix, list_names, upload_folder
from components.storage.gcs_uri import is_gcs_uri
from serving.versions.layout import numbered_folders, version_folders

_LAST = "saved_model.pb"  # what TF Serving looks for: written last, it says that the others are there


def versions(model_base: str) -> list[int]:
    """The versions in a model base, complete or not, ascending; empty for a folder that does not exist."""
    if not is_gcs_uri(model_base):
        return list(numbered_folders(Path(model_base)))
    firsts = {name.partition("/")[0] for name in list_names(model_base) if "/" in name}
    return sorted(int(first) for first in firsts if first.isascii() and first.isdecimal())


def complete_versions(model_base: str) -> dict[int, str]:
    """The complete versions in a model base, ascending: folder or address by number."""
    if not is_gcs_uri(model_base):
        return {number: str(path) for number, path in version_folders(Path(model_base)).items()}
    there = set(list_names(model_base))
    base = model_base.rstrip("/")
    return {number: f"{base}/{number}" for number in versions(model_base) if f"{number}/{_LAST}" in there}


@contextmanager
def local_copy(version: str) -> Iterator[Path]:
    """A version's files to read: its folder, or a copy of what lies in Cloud Storage, until the `with` block ends."""
    if not is_gcs_uri(version):
        yield Path(version)
        return
    with tempfile.TemporaryDirectory() as scratch:
        download_prefix(version, Path(scratch))
        yield Path(scratch)


def publish(model_base: str, write: Callable[[Path], None]) -> str:
    """Let `write` fill a hidden folder, then show it under the next version number.

    On a disk it is shown in one rename, whole or not at all, whenever the writer dies. In Cloud Storage each object
    is written under the condition that it is not there, `saved_model.pb` last.

    Args:
        model_base: folder of the model's versions, made where missing, or `gs://bucket/prefix`.
        write: fills the folder it is given with a SavedModel.

    Returns:
        The version's folder or address.

    Raises:
        InputError: the base cannot be written to.
    """
    if is_gcs_uri(model_base):
        with tempfile.TemporaryDirectory() as scratch:
            version = Path(scratch) / "version"
            version.mkdir()
            write(version)
            return _upload_as_next_version(version, model_base.rstrip("/"))
    base = Path(model_base).absolute()
    staging = base / f".staging-{os.getpid()}"
    try:
        staging.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{base}: cannot hold model versions ({error.strerror}); choose another model_base") from None
    try:
        write(staging)
        return str(_rename_to_next_version(staging, base))
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _rename_to_next_version(staging: Path, base: Path) -> Path:
    while True:
        version = base / str(_next(str(base)))
        try:
            return staging.rename(version)
        except OSError as error:
            # Another export took the number in the meantime; a folder with content is never replaced.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


def _upload_as_next_version(folder: Path, model_base: str) -> str:
    while True:
        version = f"{model_base}/{_next(model_base)}"
        try:
            upload_folder(folder, version, last=_LAST)
        except ObjectExistsError:
            continue  # another export took the number in the meantime
        return version


def _next(model_base: str) -> int:
    return max(versions(model_base), default=0) + 1
