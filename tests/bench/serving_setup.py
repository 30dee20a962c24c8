"""What the serving measurements share: an exported network of the usual size, a server process, a large scan."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np

MODEL, SIZE = "bench", 128
SHAPE = (512, 512, 300)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def export_network(base: Path, version: int = 1, dtype: str = "float32") -> Path:
    """Export the default recipe's network, untrained: its speed does not depend on its weights."""
    import keras

    from components.export.signatures import ServedModel
    from components.export.signatures import write_warmup_requests
    from components.train.network import build_network

    keras.utils.set_random_seed(0)
    folder = base / str(version)
    ServedModel(build_network(SIZE, dtype=dtype), SIZE, 0.5).save(folder)
    write_warmup_requests(folder, MODEL, SIZE)
    return folder


def export_idle(base: Path) -> None:
    """Export a network that does nothing: what remains of a request to it is the way there and back."""
    from components.export.signatures import ServedModel

    ServedModel(lambda slices_hu, training: 0.0 * slices_hu, SIZE, 0.5).save(base / "1")


@contextlib.contextmanager
def server(base: Path, *more: str) -> Iterator[str]:
    """A server process of its own; yield its address."""
    command = [sys.executable, "-m", "pipelines.cli", "serve", "--model-base", str(base), "--model", MODEL, "--port", "0"]
    with subprocess.Popen([*command, *more], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().split()[-1]
        finally:
            process.terminate()


def write_scan(path: Path, shape: tuple[int, int, int] = SHAPE) -> None:
    """A scan that compresses about as a real one does: air, a body, two lungs, noise."""
    x, y = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    picture = np.full(shape[:2], -1000.0)
    picture[(x / 0.9) ** 2 + (y / 0.7) ** 2 < 1] = 40
    picture[((abs(x) - 0.4) / 0.3) ** 2 + (y / 0.5) ** 2 < 1] = -850
    draw = np.random.default_rng(0)
    voxels = np.empty(shape, np.int16, order="F")
    for index in range(shape[2]):
        voxels[..., index] = picture + draw.normal(0, 15, shape[:2])
    voxels[..., :] = np.maximum(voxels, -1024)
    nib.save(nib.Nifti1Image(voxels, np.diag([-0.7, 0.7, 1.0, 1.0])), path)


def print_table(title: str, rows: list[tuple[str, ...]]) -> None:
    """Rows as columns under each other, the first row being the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print(f"\n{title}")
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("  " + "   ".join(cells).rstrip())
    sys.stdout.flush()
