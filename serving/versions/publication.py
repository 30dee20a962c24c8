"""Publish a version under the next free number, atomically and without overwriting: `<model base>/<integer>/`."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from components.runtime.errors import InputError
from components.storage.gcs import ObjectExistsError, upload_folder
from components.storage.gcs_uri import is_gcs_uri
from serving.versions.layout import SAVED_MODEL_PB, version_numbers


def publish(model_base: str, write: Callable[[Path], None]) -> str:
    """Write a version to a hidden folder, then publish it under the next version number.

    On disk, one rename publishes all files. In Cloud Storage, each upload fails if the object exists, and
    `saved_model.pb` is uploaded last.

    Args:
        model_base: folder of the model's versions, created if missing, or `gs://bucket/prefix`.
        write: fills a folder with a SavedModel.

    Returns:
        The version's path or URI.

    Raises:
        InputError: The base cannot be written to.
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


# Both retry if another export takes the number in the meantime.
def _rename_to_next_version(staging: Path, base: Path) -> Path:
    while True:
        try:
            return staging.rename(base / _next_number(str(base)))
        except OSError as error:  # rename never replaces a folder with content
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


def _upload_as_next_version(folder: Path, model_base: str) -> str:
    while True:
        version = f"{model_base}/{_next_number(model_base)}"
        with suppress(ObjectExistsError):
            upload_folder(folder, version, last=SAVED_MODEL_PB)
            return version


def _next_number(model_base: str) -> str:
    return str(max(version_numbers(model_base), default=0) + 1)
