"""Version folders as TensorFlow Serving watches them: `<model base>/<integer>/`, never overwritten."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from components.ct.errors import InputError


def versions(model_base: Path) -> list[int]:
    """The versions in a model base, ascending; empty for a base that does not exist."""
    if not model_base.is_dir():
        return []
    return sorted(int(path.name) for path in model_base.iterdir() if path.name.isdecimal() and path.is_dir())


def publish(model_base: Path, write: Callable[[Path], None]) -> Path:
    """Let `write` fill a hidden folder, then show it under the next version number in one rename.

    A server that watches the base sees the folder whole or not at all, whenever the writer dies.

    Args:
        model_base: folder of the model's versions; made where missing.
        write: fills the folder it is given with a SavedModel.

    Returns:
        The version's folder.

    Raises:
        InputError: the base cannot be written to.
    """
    staging = model_base / f".staging-{os.getpid()}"
    try:
        staging.mkdir(parents=True)
    except OSError as error:
        raise InputError(
            f"{model_base}: cannot hold model versions ({error.strerror}); choose another model_base"
        ) from None
    try:
        write(staging)
        return _rename_to_next_version(staging, model_base)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _rename_to_next_version(staging: Path, model_base: Path) -> Path:
    while True:
        version = model_base / str(max(versions(model_base), default=0) + 1)
        try:
            return staging.rename(version)
        except OSError as error:
            # Another export took the number in the meantime; a folder with content is never replaced.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
