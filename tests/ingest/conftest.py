"""Small cohorts as users store them: the input of ingest."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.storage.file_server import file_server
from tests.storage.gcs_server import gcs, gcs_server

__all__ = ["file_server", "gcs", "gcs_server"]

SHAPE = (6, 5, 4)


@pytest.fixture
def save() -> Callable[..., Path]:
    """Return a function that writes a NIfTI file; without voxels, a small random scan in HU."""
    draw = np.random.default_rng(1)

    def write(path: Path, voxels: np.ndarray | None = None, affine: np.ndarray | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        voxels = draw.integers(-1000, 400, SHAPE).astype(np.int16) if voxels is None else voxels
        nib.save(nib.Nifti1Image(voxels, np.diag([-1.0, 1, 3, 1]) if affine is None else affine), path)
        return path

    return write


def mask_of(*labels: float, dtype: str = "uint8") -> np.ndarray:
    """Return a mask with each label once, and 0 elsewhere."""
    mask = np.zeros(SHAPE, dtype)
    mask.flat[: len(labels)] = labels
    return mask


@pytest.fixture
def cohort(tmp_path, save) -> Path:
    """Four cases with binary masks under `scans/` and `infection_masks/`."""
    folder = tmp_path / "hospital"
    for index in range(4):
        save(folder / "scans" / f"case_{index}.nii.gz")
        save(folder / "infection_masks" / f"case_{index}.nii.gz", mask_of(1, 1, 1))
    return folder


def read_files(folder: Path) -> dict[Path, bytes]:
    """Read every file below a folder, by its relative path."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
