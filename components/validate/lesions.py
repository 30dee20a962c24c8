"""The single lesions of a mask: what hangs together over faces, edges or corners."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_NEIGHBOURS_26 = np.ones((3, 3, 3), bool)


@dataclass(frozen=True)
class Lesions:
    """The lesions of a mask, within the box that holds them all.

    Attributes:
        box: where the box lies in the (n, rows, columns) slices.
        labels: int32 array of the box: 0 background, 1 to `count` the lesions.
        sizes: voxels of each lesion.
    """

    box: tuple[slice, slice, slice]
    labels: NDArray[np.int32]
    sizes: NDArray[np.int64]

    @property
    def count(self) -> int:
        """Number of lesions."""
        return len(self.sizes)

    @property
    def voxels(self) -> int:
        """Voxels of all lesions."""
        return int(self.sizes.sum())

    @property
    def largest(self) -> int:
        """Voxels of the largest lesion, 0 where there is none."""
        return int(self.sizes.max(initial=0))

    @classmethod
    def of(cls, slices_mask: NDArray) -> Self:
        """Find the lesions of (n, rows, columns) slices, where everything but 0 is lesion."""
        box = _box(slices_mask)
        labels, count = ndimage.label(slices_mask[box], _NEIGHBOURS_26)
        return cls(box, labels, np.bincount(labels.ravel(), minlength=count + 1)[1:])


def _box(slices_mask: NDArray) -> tuple[slice, slice, slice]:
    """The smallest box with every lesion voxel; empty where there is none."""
    occupied = [index for index, pixels in enumerate(slices_mask) if np.count_nonzero(pixels)]
    if not occupied:
        return slice(0, 0), slice(0, 0), slice(0, 0)
    part = slice(occupied[0], occupied[-1] + 1)
    shadow = np.zeros(slices_mask.shape[1:], bool)
    for index in occupied:
        np.logical_or(shadow, slices_mask[index], out=shadow)
    rows, columns = np.flatnonzero(shadow.any(axis=1)), np.flatnonzero(shadow.any(axis=0))
    return part, slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
