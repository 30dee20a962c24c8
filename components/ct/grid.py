"""Axial slices to the network's square grid and back: one map, its inverse, and the order of the axes.

A slice is stored as a radiologist sees it: rows run from anterior to posterior, columns from the patient's
right to the left. That is also the order of DICOM's own pixel arrays for an axial scan.

The map is linear and separable, so that it is a matrix for each axis: shrinking averages over the area that
each grid cell covers (the sum of a mask, and with it the lesion's volume, is kept exactly), growing
interpolates linearly. `serving_default` builds the same matrices in the graph. Here they are sparse: a cell
depends on a few pixels of each row and column, and a dense product would be ten times the work.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

# Averages of whole HU often end in .5; with this added, rounding falls to the same side in any arithmetic.
TIE_BREAK_HU = 2**-10
AIR_HU = -1000  # CT numbers are scaled so that air is -1000 and water 0 (Hounsfield, 1973)


def axial_slices(volume: NDArray) -> NDArray:
    """Turn an (x, y, z) volume in RAS+ into (z, rows, columns) slices, anterior and right first. A view."""
    return volume[::-1, ::-1, :].transpose(2, 1, 0)


def volume_from_axial_slices(slices: NDArray) -> NDArray:
    """Turn (z, rows, columns) slices back into an (x, y, z) volume in RAS+. A view."""
    return slices.transpose(2, 1, 0)[::-1, ::-1, :]


def resampling_matrix(n_from: int, n_to: int) -> NDArray[np.float32]:
    """Weights that resample `n_from` samples to `n_to` over the same extent.

    Returns:
        (n_to, n_from) float32, each row summing to 1: area averages when `n_to <= n_from`, otherwise linear
        interpolation between sample centres with the outermost samples continued to the edge.
    """
    step = n_from / n_to
    source = np.arange(n_from)
    target = np.arange(n_to)[:, None]
    if n_to <= n_from:
        overlap = np.minimum((target + 1) * step, source + 1) - np.maximum(target * step, source)
        weights = np.maximum(overlap, 0) / step
    else:
        centre = np.clip((target + 0.5) * step - 0.5, 0, n_from - 1)
        weights = np.maximum(1 - np.abs(centre - source), 0)
    return weights.astype(np.float32)


@dataclass(frozen=True)
class GridFit:
    """How slices of `height`×`width` pixels lie on a grid of `size`×`size` cells: scaled, centred, padded."""

    height: int
    width: int
    size: int

    @property
    def content(self) -> tuple[int, int]:
        """Rows and columns of the grid that the slice covers, at least one each."""
        scale = self.size / max(self.height, self.width)
        return max(1, round(self.height * scale)), max(1, round(self.width * scale))

    @property
    def offset(self) -> tuple[int, int]:
        """First row and column of the content."""
        rows, columns = self.content
        return (self.size - rows) // 2, (self.size - columns) // 2

    def apply(self, slices: NDArray, padding: float) -> NDArray[np.float32]:
        """Fit (n, height, width) slices to (n, size, size) float32, `padding` around the content."""
        rows, columns = self.content
        top, left = self.offset
        out = np.full((len(slices), self.size, self.size), padding, np.float32)
        down, across = _matrix(self.height, rows), _matrix(self.width, columns)
        out[:, top : top + rows, left : left + columns] = _both_axes(slices, down, across)
        return out

    def invert(self, grids: NDArray) -> NDArray[np.float32]:
        """Take (n, size, size) grid values back to (n, height, width) float32 on the slices' own pixels."""
        rows, columns = self.content
        top, left = self.offset
        content = grids[:, top : top + rows, left : left + columns]
        return _both_axes(content, _matrix(rows, self.height), _matrix(columns, self.width))


@lru_cache(maxsize=64)
def _matrix(n_from: int, n_to: int) -> csr_array:
    return csr_array(resampling_matrix(n_from, n_to))


def _both_axes(slices: NDArray, down: csr_array, across: csr_array) -> NDArray[np.float32]:
    """Apply one matrix along the rows and one along the columns, a slice at a time to bound memory."""
    out = np.empty((len(slices), down.shape[0], across.shape[0]), np.float32)
    real = np.empty(slices.shape[1:], np.float32)  # one for all slices: fresh memory costs more than the conversion
    for index, pixels in enumerate(slices):
        np.copyto(real, pixels)
        out[index] = (across @ (down @ real).T).T
    return out


def fit_hu(slices_hu: NDArray, size: int) -> NDArray[np.int16]:
    """Fit (n, h, w) slices in HU to the network's (n, size, size) int16 grid, padded with air."""
    fit = GridFit(slices_hu.shape[1], slices_hu.shape[2], size)
    return np.rint(fit.apply(slices_hu, AIR_HU) + TIE_BREAK_HU).astype(np.int16)


def fit_mask(slices_mask: NDArray, size: int) -> NDArray[np.uint8]:
    """Fit (n, h, w) binary masks to (n, size, size) uint8 cell fractions: 0 none, 255 all of it lesion."""
    fit = GridFit(slices_mask.shape[1], slices_mask.shape[2], size)
    shares = np.zeros((len(slices_mask), size, size), np.uint8)
    with_lesion = [index for index, mask in enumerate(slices_mask) if np.count_nonzero(mask)]
    if with_lesion:
        shares[with_lesion] = np.rint(fit.apply(slices_mask[with_lesion], 0) * 255)
    return shares
