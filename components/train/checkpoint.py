"""Checkpoints after each epoch, from which an interrupted run resumes without repeating a finished epoch.

A checkpoint is one file, `epoch-0007.<digest>.npz`: the weights and the optimizer state after the epoch, the best
epoch's weights, and the run's state as JSON. The digest in its name reveals a damaged file.
"""

import hashlib
import io
import json
import logging
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.runtime.errors import InputError
from components.runtime.files import atomic_write, sha256_of

_log = logging.getLogger(__name__)
_KEEP = 2  # the newest, and a fallback
_NAME = re.compile(r"epoch-(\d{4,})\.([0-9a-f]{16})\.npz")
_STATE = "state"
_ARRAYS = ("weights", "optimizer", "best")


@dataclass(frozen=True)
class Checkpoint:
    """A run after a finished epoch."""

    epoch: int  # number of finished epochs
    weights: list[NDArray]  # of the network, in its own order
    optimizer: list[NDArray]  # its variables, in its own order, including the step count
    best: list[NDArray]  # weights of the best epoch so far
    state: Mapping[str, Any]  # of `Training`, JSON values


def parse_checkpoint_dir(value: str | None) -> Path | None:
    """Return the user's checkpoint folder as a path, None for none; `InputError` for a URI."""
    if value and "://" in value:
        raise InputError(
            f"checkpoint_dir {value}: a URI; expected a folder; mount the bucket or a persistent volume, and give its "
            "path in the step"
        )
    return Path(value) if value else None


class CheckpointFolder:
    """The checkpoints of one run; the first `write` creates the folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def write(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint atomically, and remove all but the newest two."""
        arrays = {
            f"{name}/{index:04d}": array for name in _ARRAYS for index, array in enumerate(getattr(checkpoint, name))
        }
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, **{_STATE: np.array(json.dumps(checkpoint.state))}, **arrays)
        content = file.getvalue()
        path = self.folder / f"epoch-{checkpoint.epoch:04d}.{hashlib.sha256(content).hexdigest()[:16]}.npz"
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
        for old_path in self._list_paths()[:-_KEEP]:
            old_path.unlink()
        return path

    def read_newest(self) -> Checkpoint | None:
        """Read the newest undamaged checkpoint, None without one; remove the damaged ones after it."""
        for path in reversed(self._list_paths()):
            checkpoint = _read(path)
            if checkpoint:
                return checkpoint
            _log.warning("checkpoint %s: damaged, its digest differs from its name; using the previous one", path)
            path.unlink(missing_ok=True)  # another pod may have removed it
        return None

    def remove(self) -> None:
        """Remove all checkpoints of a finished run."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # other runs may share the parent
            self.folder.parent.rmdir()

    def _list_paths(self) -> list[Path]:
        matches = [(match, path) for path in self.folder.glob("epoch-*.npz") if (match := _NAME.fullmatch(path.name))]
        return [path for _, path in sorted(matches, key=lambda pair: int(pair[0][1]))]


def _read(path: Path) -> Checkpoint | None:
    match = _NAME.fullmatch(path.name)
    if not match or not sha256_of(path).startswith(match[2]):
        return None
    with np.load(path, allow_pickle=False) as file:
        names = sorted(file.files)
        arrays = {part: [file[name] for name in names if name.startswith(f"{part}/")] for part in _ARRAYS}
        return Checkpoint(int(match[1]), state=json.loads(str(file[_STATE])), **arrays)
