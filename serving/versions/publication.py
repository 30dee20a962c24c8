"""Publish a version under the next free number, atomically and without overwriting: `<model base>/<integer>/`.

A version that is being written is in a hidden folder, which servers ignore. On disk, one rename publishes it. Cloud
Storage cannot rename a folder: there it is uploaded to `.staging-<integer>/`, which reserves the number, and copied
inside Cloud Storage, `saved_model.pb` last. An export that is killed leaves a hidden folder, or, killed during the
second of the copies, an incomplete version. The next export takes a higher number, which replaces it for servers of the
newest version, and removes both once no export can still be writing them.
"""

import errno
import logging
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from components.runtime.errors import InputError
from components.runtime.files import check_folder_writable
from components.storage.gcs import (
    ObjectExistsError,
    check_prefix_writable,
    copy_folder,
    delete_prefix,
    list_names,
    list_times,
    upload_folder,
)
from components.storage.gcs_uri import is_gcs_uri
from serving.versions.layout import MAX_VERSION, SAVED_MODEL_PB, newest_version, parse_version, version_numbers

# Each write of an export is given up after minutes (components.storage.gcs.DEADLINE_S). The rest is for slow uploads of
# one file, and for clocks that differ.
ABANDONED_AFTER = timedelta(hours=1)
_STAGING = ".staging-"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IncompleteFolder:
    """A numbered folder without `saved_model.pb`, or the hidden folder of an export."""

    base: str
    name: str
    last_write: datetime

    @property
    def is_abandoned(self) -> bool:
        """Whether no export can still be writing it."""
        return datetime.now(UTC) - self.last_write >= ABANDONED_AFTER

    def remove(self) -> None:
        """Delete the folder with all files."""
        if is_gcs_uri(self.base):
            delete_prefix(f"{self.base}/{self.name}")
        else:
            shutil.rmtree(Path(self.base) / self.name)


def publish(model_base: str, write: Callable[[Path], None]) -> str:
    """Write a version to a hidden folder, then publish it under the next version number.

    Args:
        model_base: folder of the model's versions, created if missing, or `gs://bucket/prefix`.
        write: fills a folder with a SavedModel.

    Returns:
        The version's path or URI.

    Raises:
        InputError: The base cannot be written to.
    """
    version = _publish_to_gcs(model_base.rstrip("/"), write) if is_gcs_uri(model_base) else _publish(model_base, write)
    with suppress(InputError, OSError):  # the version is published
        _remove_abandoned(model_base)
    return version


def check_publishable(model_base: str) -> None:
    """Raise `InputError` unless a version can be published under `model_base`; leave nothing behind."""
    if newest_version(model_base) == model_base.rstrip("/"):
        raise InputError(f"{model_base}: a version folder; expected the folder of all versions, which holds it")
    _next_number(version_numbers(model_base), model_base)
    if is_gcs_uri(model_base):
        check_prefix_writable(model_base)
    else:
        check_folder_writable(Path(model_base))


def find_incomplete(model_base: str) -> list[IncompleteFolder]:
    """Find the folders in a model base that are not complete versions, sorted by name."""
    base = model_base.rstrip("/")
    if is_gcs_uri(base):
        times = list_times(base)
    else:
        paths = [path for folder in Path(base).glob("*/") for path in (folder, *folder.rglob("*"))]
        times = {
            f"{path.relative_to(base).as_posix()}{'/' * path.is_dir()}": datetime.fromtimestamp(
                path.stat().st_mtime, UTC
            )
            for path in paths
        }
    newest: dict[str, datetime] = {}
    for name, time in times.items():
        folder = name.partition("/")[0]
        hidden = folder.startswith(_STAGING)
        if hidden or ("/" in name and parse_version(folder) is not None and f"{folder}/{SAVED_MODEL_PB}" not in times):
            newest[folder] = max(time, newest.get(folder, time))
    return [IncompleteFolder(base, name, time) for name, time in sorted(newest.items())]


def _publish(model_base: str, write: Callable[[Path], None]) -> str:
    base = Path(model_base).absolute()
    staging = base / f"{_STAGING}{uuid.uuid4().hex}"  # not the process id: those repeat in containers
    try:
        staging.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{base}: cannot hold model versions ({error.strerror}); choose another model_base") from None
    try:
        write(staging)
        while True:
            try:
                return str(staging.rename(base / str(_next_number(version_numbers(str(base)), str(base)))))
            except OSError as error:  # rename never replaces a folder with content: another export took the number
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _publish_to_gcs(base: str, write: Callable[[Path], None]) -> str:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "version"
        folder.mkdir()
        write(folder)
        while True:
            reserved = [name.removeprefix(_STAGING).partition("/")[0] for name in list_names(base)]
            number = _next_number([n for name in reserved if (n := parse_version(name)) is not None], base)
            version = f"{base}/{number}"
            with suppress(ObjectExistsError), _reserve(base, number) as staging:  # another export may take the number
                if not list_names(version):
                    upload_folder(folder, staging)
                    copy_folder(staging, version, last=SAVED_MODEL_PB)
                    return version


@contextmanager
def _reserve(base: str, number: int) -> Iterator[str]:
    """Reserve a version number by a hidden folder; yield the prefix for its files, and delete the folder afterwards.

    Raises:
        ObjectExistsError: Another export has reserved the number.
    """
    staging = f"{base}/{_STAGING}{number}"
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "reservation").write_text(uuid.uuid4().hex)
        upload_folder(Path(scratch), staging)
    try:
        yield f"{staging}/files"
    finally:
        with suppress(InputError):  # report the original failure; the next exports remove the folder
            delete_prefix(f"{staging}/files")
            delete_prefix(staging)


def _next_number(numbers: list[int], base: str) -> int:
    newest = max(numbers, default=0)
    if newest == MAX_VERSION:
        raise InputError(f"{base}: version {newest} is the highest number that TensorFlow Serving reads; remove it")
    return max(newest, 0) + 1


def _remove_abandoned(model_base: str) -> None:
    """Remove what killed exports left: hidden folders, and the incomplete versions whose numbers they reserve."""
    folders = {folder.name: folder for folder in find_incomplete(model_base)}
    for name, folder in folders.items():
        version = folders.get(name.removeprefix(_STAGING))
        if name.startswith(_STAGING) and folder.is_abandoned and (version is None or version.is_abandoned):
            for part in (version, folder) if version else (folder,):
                part.remove()
                _log.warning("%s/%s: removed, an export that was killed left it", part.base, part.name)
