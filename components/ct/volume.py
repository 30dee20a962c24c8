"""3-D volumes in one orientation, and the way back to the grid of the file that they came from."""

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip
from numpy.typing import NDArray

from components.ct.nifti import read_nifti
from components.runtime.files import atomic_write

_CANONICAL = np.array([[0, 1], [1, 1], [2, 1]])  # nibabel's orientation array for RAS+


@dataclass(frozen=True)
class FileGrid:
    """The grid on which a file stores its voxels: `shape` in file order and the (4, 4) `affine` to mm."""

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @property
    def orientation(self) -> str:
        """Where the file's axes point, such as `LAS`: the closest anatomical direction of each."""
        return "".join(nib.aff2axcodes(self.affine))


@dataclass(frozen=True)
class Volume:
    """A volume in memory.

    Attributes:
        voxels: (x, y, z) array in RAS+ or, for an oblique scan, the axis order and flips closest to it.
        spacing_mm: voxel size along x, y and z.
        file_grid: the grid of the file it came from, where results go back to.
        stored_dtype: the type of the numbers in the file, before scaling.
    """

    voxels: NDArray
    spacing_mm: tuple[float, float, float]
    file_grid: FileGrid
    stored_dtype: np.dtype

    @property
    def voxel_ml(self) -> float:
        """The volume of one voxel in milliliters."""
        return float(np.prod(self.spacing_mm)) / 1000


def read_volume(path: Path) -> Volume:
    """Read a `.nii` or `.nii.gz` file whole, its CRC checked, slope and intercept applied, turned to RAS+.

    Integers without scaling keep their type; scaled values become float32.

    Raises:
        VolumeError: the file is missing, damaged, no scalar 3-D NIfTI, or its header makes no sense.
    """
    stored = read_nifti(path)
    return to_ras(stored.scaled(), stored.header.get_best_affine(), stored.voxels.dtype)


def to_ras(voxels: NDArray, affine: NDArray[np.float64], stored_dtype: np.dtype) -> Volume:
    """The volume of `voxels` in file order, whose (4, 4) `affine` leads to RAS millimeters."""
    orientation = nib.io_orientation(affine)
    in_file_order = nib.affines.voxel_sizes(affine)
    spacing = [0.0, 0.0, 0.0]
    for file_axis, (canonical_axis, _) in enumerate(orientation):
        spacing[int(canonical_axis)] = float(in_file_order[file_axis])
    columns, rows, slices = voxels.shape
    return Volume(
        nib.apply_orientation(voxels, orientation),
        (spacing[0], spacing[1], spacing[2]),
        FileGrid((columns, rows, slices), affine),
        stored_dtype,
    )


def positive_strides(voxels: NDArray) -> tuple[slice, ...]:
    """The index that turns a turned volume so that every axis runs forward in memory; used twice, it turns back.

    For what does not depend on places, such as a minimum: numpy takes several times longer over an axis that
    runs backwards, and `ravel(order="K")` would copy it.
    """
    return tuple(slice(None, None, -1 if step < 0 else 1) for step in voxels.strides)


def write_on_file_grid(path: Path, voxels: NDArray, file_grid: FileGrid) -> None:
    """Write RAS+ `voxels` (x, y, z) in the axis order, shape and affine of `file_grid`, whole or not at all.

    The header holds geometry alone: no free text, no extensions.
    """
    to_file = nib.orientations.ornt_transform(_CANONICAL, nib.io_orientation(file_grid.affine))
    stored = np.asfortranarray(nib.apply_orientation(voxels, to_file))
    if stored.shape != file_grid.shape:
        raise ValueError(f"{path}: voxels {stored.shape} do not fit the file's grid {file_grid.shape}")
    image = nib.Nifti1Image(stored, file_grid.affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(file_grid.affine, code=1)
    image.set_sform(file_grid.affine, code=1)
    content = image.to_bytes()
    if path.name.endswith(".gz"):
        # No time stamp: the same voxels give the same bytes.
        content = igzip.compress(content, compresslevel=1, mtime=0)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
