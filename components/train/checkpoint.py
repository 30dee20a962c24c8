"""Where an unfinished run stands, on disk after each epoch: a killed run goes on, and repeats no finished epoch.

A checkpoint is one file, `epoch-0007.<digest>.npz`: weights and optimizer state after the epoch, the weights of the
best epoch so far, and the history as JSON. Half-written files have another name; a damaged one has another digest.
"""

import hashlib
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.runtime.errors import InputError
from components.runtime.files import atomic_write, sha256_of

KEPT = 2  # the newest, and one to fall back on
_NAME = re.compile(r"epoch-(\d{4,})\.([0-9a-f]{16})\.npz")
_STATE = "state"
_PARTS = ("weights", "optimizer", "best")


@dataclass(frozen=True)
class Checkpoint:
    """A run after a finished epoch.

    Attributes:
        epoch: epochs finished.
        weights: of the network, in its own order.
        optimizer: its variables, in its own order; among them the number of steps made.
        best: weights of the best epoch so far.
        state: what the run knows of itself, as JSON holds it.
    """

    epoch: int
    weights: list[NDArray]
    optimizer: list[NDArray]
    best: list[NDArray]
    state: Mapping[str, Any]


def checkpoint_folder(given: str | None) -> Path | None:
    """The folder that a user named for checkpoints; None, which is beside the model, where none was named.

    Raises:
        InputError: an address, not a folder.
    """
    if given and "://" in given:
        raise InputError(
            f"checkpoint_dir {given}: an address, and checkpoints need a folder; mount the bucket or a persistent "
            "volume into the step, and give the path it has there"
        )
    return Path(given) if given else None


class CheckpointFolder:
    """The checkpoints of one run, newest last.

    Args:
        folder: made with the first checkpoint.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def write(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint, whole or not at all, and remove all but the newest `KEPT`."""
        arrays = {
            f"{part}/{index:04d}": array for part in _PARTS for index, array in enumerate(getattr(checkpoint, part))
        }
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, **{_STATE: np.array(json.dumps(checkpoint.state))}, **arrays)
        content = file.getvalue()
        path = self.folder / f"epoch-{checkpoint.epoch:04d}.{hashlib.sha256(content).hexdigest()[:16]}.npz"
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
        for old in self._paths()[:-KEPT]:
            old.unlink()
        return path

    def newest(self, tell: Callable[[str], None] = print) -> Checkpoint | None:
        """The newest checkpoint that is whole; None without one.

        A damaged one is told of, and removed: the epoch after the one before it is trained again.
        """
        for path in reversed(self._paths()):
            found = _read(path)
            if found:
                return found
            tell(f"checkpoint {path}: damaged, its content is not what its name promises; the one before it is taken")
            path.unlink(missing_ok=True)  # another pod of the run may have been here
        return None

    def remove(self) -> None:
        """Remove all checkpoints, as a finished run does."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # other runs' may lie beside them
            self.folder.parent.rmdir()

    def _paths(self) -> list[Path]:
        found = [(match, path) for path in self.folder.glob("epoch-*.npz") if (match := _NAME.fullmatch(path.name))]
        return [path for _, path in sorted(found, key=lambda pair: int(pair[0][1]))]


def _read(path: Path) -> Checkpoint | None:
    match = _NAME.fullmatch(path.name)
    if not match or not sha256_of(path).startswith(match[2]):
        return None
    with np.load(path, allow_pickle=False) as arrays:
        parts = {part: list(_of_part(arrays, part)) for part in _PARTS}
        return Checkpoint(int(match[1]), state=json.loads(str(arrays[_STATE])), **parts)


def _of_part(arrays: Any, part: str) -> Iterator[NDArray]:
    for name in sorted(arrays.files):
        if name.startswith(f"{part}/"):
            yield arrays[name]
