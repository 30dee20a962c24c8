"""Where the patient is in a scan, roughly: enough to tell a wrong spacing and a shifted mask from sound ones.

Worked out on a thinned volume, since a body's outline and a lung's litres need no half-millimetre pixels.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SOLID_FROM_HU = -500  # half-way between lung or air and soft tissue
AIR_BELOW_HU = -900  # outside the body and in airways; aerated lung lies above (Hounsfield scale)
_MOST_PIXELS, _MOST_SLICES = 128, 96  # of a thinned axis
_LEAST_AIR_AROUND = 0.5  # of the pixels at a slice's edge; a scan cropped to the lungs has less
_IN_PLANE = np.array([[[0, 0, 0], [0, 0, 0], [0, 0, 0]], [[0, 1, 0], [1, 1, 1], [0, 1, 0]], [[0, 0, 0]] * 3])


@dataclass(frozen=True)
class Anatomy:
    """The patient in a thinned volume.

    Attributes:
        body: (n, rows, columns) bool, everything within the skin, lungs included; None for a scan that is cropped
            so that there is no air around the patient.
        steps: how the volume was thinned, along slices, rows and columns.
        lung_ml: air within the body in milliliters, which is the lungs but for airways and bowel; None if cropped.
        empty_slices: slices of the whole volume without any tissue.
    """

    body: NDArray[np.bool_] | None
    steps: tuple[int, int, int]
    lung_ml: float | None
    empty_slices: int

    @classmethod
    def of(cls, slices_hu: NDArray[np.int16], voxel_ml: float) -> Self:
        """Find the patient in (n, rows, columns) axial slices."""
        steps = _steps(slices_hu.shape)
        tissue = slices_hu[:, :: steps[1], :: steps[2]] >= SOLID_FROM_HU
        empty = len(tissue) - int(tissue.any(axis=(1, 2)).sum())
        thin = slices_hu[:: steps[0], :: steps[1], :: steps[2]]
        if _at_edges(thin < AIR_BELOW_HU).mean() < _LEAST_AIR_AROUND:
            return cls(None, steps, None, empty)
        body = _body(tissue[:: steps[0]])
        inside = int(np.count_nonzero(body & ~tissue[:: steps[0]]))
        return cls(body, steps, inside * voxel_ml * len(slices_hu) / len(thin) * steps[1] * steps[2], empty)

    def share_outside(self, slices_mask: NDArray) -> float | None:
        """Share of a mask's lesion voxels outside the body; None where there is no lesion, or no outside."""
        slices, rows, columns = self.steps
        lesion = slices_mask[::slices, ::rows, ::columns] != 0
        count = int(np.count_nonzero(lesion))
        if self.body is None or not count:
            return None
        return int(np.count_nonzero(lesion & ~self.body)) / count


def _steps(shape: tuple[int, ...]) -> tuple[int, int, int]:
    slices, rows, columns = shape
    in_plane = -(-max(rows, columns) // _MOST_PIXELS)
    return -(-slices // _MOST_SLICES), in_plane, in_plane


def _body(tissue: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest piece of what no air outside reaches within its slice: a table or a blanket is another piece."""
    air, _ = ndimage.label(~tissue, _IN_PLANE)
    outside = np.zeros(air.max() + 1, bool)
    outside[_at_edges(air)] = True
    outside[0] = False
    pieces, count = ndimage.label(~outside[air])
    if not count:
        return np.zeros(tissue.shape, bool)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return pieces == sizes.argmax()


def _at_edges(slices: NDArray) -> NDArray:
    """The pixels at the four edges of every slice, in one row."""
    edges = (slices[:, 0], slices[:, -1], slices[:, :, 0], slices[:, :, -1])
    return np.concatenate([edge.ravel() for edge in edges])
