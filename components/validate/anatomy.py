"""Locate the body and the lungs in a scan, to detect a wrong spacing and a shifted mask.

Works on a subsampled volume: the outline of a body and the volume of lungs need no half-millimeter pixels.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

TISSUE_MIN_HU = -500  # half-way between lung or air and soft tissue
AIR_MAX_HU = -900  # outside the body and in airways; aerated lung is above (Hounsfield scale)
_MAX_PIXELS, _MAX_SLICES = 128, 96  # of a subsampled axis
_MIN_AIR_SHARE = 0.5  # of the pixels on the edges of slices; a scan cropped to the lungs has less
_IN_PLANE = np.array([[[0, 0, 0]] * 3, [[0, 1, 0], [1, 1, 1], [0, 1, 0]], [[0, 0, 0]] * 3])


@dataclass(frozen=True)
class Anatomy:
    """The body in a subsampled volume; None for a cropped scan without air around the body."""

    body: NDArray[np.bool_] | None  # (n, rows, columns), everything inside the skin including lungs
    steps: tuple[int, int, int]  # subsampling along slices, rows and columns
    lung_ml: float | None  # air inside the body: lungs, airways and bowel
    empty_slices: int  # slices of the whole volume without tissue

    @classmethod
    def from_slices(cls, slices_hu: NDArray[np.int16], voxel_ml: float) -> Self:
        """Segment the body in (n, rows, columns) axial slices."""
        in_plane = -(-max(slices_hu.shape[1:]) // _MAX_PIXELS)
        steps = (-(-len(slices_hu) // _MAX_SLICES), in_plane, in_plane)
        tissue = slices_hu[:, ::in_plane, ::in_plane] >= TISSUE_MIN_HU
        empty_slices = len(tissue) - int(tissue.any(axis=(1, 2)).sum())
        tissue = tissue[:: steps[0]]
        if (_edge_pixels(slices_hu[:: steps[0], ::in_plane, ::in_plane]) < AIR_MAX_HU).mean() < _MIN_AIR_SHARE:
            return cls(None, steps, None, empty_slices)
        body = _segment_body(tissue)
        lung_voxels = int(np.count_nonzero(body & ~tissue)) * len(slices_hu) / len(tissue) * in_plane**2
        return cls(body, steps, lung_voxels * voxel_ml, empty_slices)

    def share_outside(self, slices_mask: NDArray) -> float | None:
        """Share of a mask's lesion voxels outside the body; None for a cropped scan or an empty mask."""
        lesion = slices_mask[tuple(slice(None, None, step) for step in self.steps)] != 0
        voxels = int(np.count_nonzero(lesion))
        if self.body is None or not voxels:
            return None
        return int(np.count_nonzero(lesion & ~self.body)) / voxels


def _segment_body(tissue: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Largest component that is not outside air, slice by slice; table and blanket are smaller components."""
    air, _ = ndimage.label(~tissue, _IN_PLANE)
    is_outside = np.zeros(air.max() + 1, bool)
    is_outside[_edge_pixels(air)] = True
    is_outside[0] = False
    components, count = ndimage.label(~is_outside[air])
    if not count:
        return np.zeros(tissue.shape, bool)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    return components == sizes.argmax()


def _edge_pixels(slices: NDArray) -> NDArray:
    """Pixels on the four edges of every slice, as one row."""
    edges = (slices[:, 0], slices[:, -1], slices[:, :, 0], slices[:, :, -1])
    return np.concatenate([edge.ravel() for edge in edges])
