"""3-D volumes in RAS+ orientation, and their conversion back to the grid of the source file."""

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip
from numpy.typing import NDArray

from components.ct.geometry import is_oriented, is_same_grid
from components.ct.nifti import read_nifti
from components.runtime.files import atomic_write

_RAS = np.array([[0, 1], [1, 1], [2, 1]])  # nibabel's orientation array


@dataclass(frozen=True)
class FileGrid:
    """The voxel grid of a file."""

    shape: tuple[int, ...]  # in file order; a NIfTI file may have further axes of length 1
    affine: NDArray[np.float64]  # (4, 4), to mm
    is_oriented: bool = True  # False if the orientation of `affine` is assumed; results do not state it, either

    @property
    def orientation(self) -> str:
        """The closest anatomical direction of each file axis, such as `LAS`."""
        return "".join(nib.aff2axcodes(self.affine))


@dataclass(frozen=True)
class Volume:
    """A volume in memory."""

    voxels: NDArray  # (x, y, z) in RAS+; for an oblique scan, in the closest axis order and flips
    spacing_mm: tuple[float, float, float]  # along x, y and z
    file_grid: FileGrid  # of the source file, on which results are written
    stored_dtype: np.dtype  # in the file, before scaling
    notes: tuple[str, ...] = ()  # on doubtful geometry

    @property
    def voxel_ml(self) -> float:
        """The volume of one voxel in milliliters."""
        return float(abs(np.linalg.det(self.file_grid.affine[:3, :3]))) / 1000


def read_volume(path: Path) -> Volume:
    """Read a `.nii` or `.nii.gz` file in RAS+, its CRC checked, slope and intercept applied.

    Unscaled integers keep their dtype; scaled values become float32.

    Raises:
        VolumeError: the file is missing, damaged, not a scalar 3-D NIfTI, or its header is invalid.
    """
    stored = read_nifti(path)
    file_grid = FileGrid(stored.shape, stored.header.get_best_affine(), is_oriented(stored.header))
    return to_ras(stored.scaled_voxels(), file_grid, stored.voxels.dtype, stored.notes)


def to_ras(voxels: NDArray, file_grid: FileGrid, stored_dtype: np.dtype, notes: tuple[str, ...] = ()) -> Volume:
    """Build a volume from 3-D `voxels` in file order."""
    orientation = nib.io_orientation(file_grid.affine)
    file_spacing_mm = nib.affines.voxel_sizes(file_grid.affine)
    x, y, z = (float(file_spacing_mm[axis]) for axis in np.argsort(orientation[:, 0]))
    return Volume(nib.apply_orientation(voxels, orientation), (x, y, z), file_grid, stored_dtype, notes)


def positive_strides(voxels: NDArray) -> tuple[slice, ...]:
    """Return the index that makes every axis run forward in memory; applied twice, it restores the array.

    For reductions that do not depend on the voxel order: numpy is several times slower over reversed axes, and
    `ravel(order="K")` would copy them.
    """
    return tuple(slice(None, None, -1 if step < 0 else 1) for step in voxels.strides)


def write_on_file_grid(path: Path, voxels: NDArray, file_grid: FileGrid) -> None:
    """Write RAS+ `voxels` (x, y, z) atomically in the axis order, shape and affine of `file_grid`.

    The header holds geometry only, without free text or extensions.
    """
    to_file = nib.orientations.ornt_transform(_RAS, nib.io_orientation(file_grid.affine))
    stored = np.asfortranarray(nib.apply_orientation(voxels, to_file))
    if stored.shape != file_grid.shape[:3]:
        raise ValueError(f"{path}: voxels {stored.shape}; expected the file grid {file_grid.shape}")
    image = nib.Nifti1Image(stored.reshape(file_grid.shape, order="F"), file_grid.affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(file_grid.affine, code=1)
    image.set_qform(file_grid.affine, code=1)
    if not is_same_grid(file_grid.shape, file_grid.affine, image.get_qform()):
        image.set_qform(None, code=0)  # a quaternion has no shear
    if not file_grid.is_oriented:
        image.set_sform(None, code=0)
        image.set_qform(None, code=0)
    content = image.to_bytes()
    if path.name.endswith(".gz"):
        content = igzip.compress(content, compresslevel=1, mtime=0)  # without a time stamp: reproducible bytes
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
