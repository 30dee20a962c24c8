"""Shared by the serving benchmarks: exported networks, a server process, a large scan, tables."""

import os
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

MODEL, SIZE = "bench", 128
SHAPE = (512, 512, 300)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def export_network(base: Path, version: int = 1, dtype: str = "float32") -> Path:
    """Export the default network, untrained: speed does not depend on the weights."""
    import keras

    from components.export.signatures import ServedModel, write_warmup_requests
    from components.train.network import build_network

    keras.utils.set_random_seed(0)
    folder = base / str(version)
    ServedModel(build_network(SIZE, dtype=dtype), SIZE, 0.5).save(folder)
    write_warmup_requests(folder, MODEL, SIZE)
    return folder


def export_idle(base: Path) -> None:
    """Export a network without computation, to measure transport alone."""
    from components.export.signatures import ServedModel

    ServedModel(lambda slices_hu, training: 0.0 * slices_hu, SIZE, 0.5).save(base / "1")


def write_scan(path: Path, shape: tuple[int, int, int] = SHAPE) -> None:
    """Write a scan that compresses like a real one: air, a body, two lungs, noise."""
    x, y = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    pixels = np.full(shape[:2], -1000.0)
    pixels[(x / 0.9) ** 2 + (y / 0.7) ** 2 < 1] = 40
    pixels[((abs(x) - 0.4) / 0.3) ** 2 + (y / 0.5) ** 2 < 1] = -850
    draw = np.random.default_rng(0)
    voxels = np.empty(shape, np.int16, order="F")
    for index in range(shape[2]):
        voxels[..., index] = pixels + draw.normal(0, 15, shape[:2])
    voxels[..., :] = np.maximum(voxels, -1024)
    nib.save(nib.Nifti1Image(voxels, np.diag([-0.7, 0.7, 1.0, 1.0])), path)


def print_table(title: str, rows: list[tuple[str, ...]]) -> None:
    """Print rows in aligned columns; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print(f"\n{title}")
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("  " + "   ".join(cells).rstrip())
    sys.stdout.flush()
