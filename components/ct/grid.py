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
_ROW_GAP = 16  # pixels: one line of the cache
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
        interpolation between sample centers with the outermost samples continued to the edge.
    """
    step = n_from / n_to
    source = np.arange(n_from)
    target = np.arange(n_to)[:, None]
    if n_to <= n_from:
        overlap = np.minimum((target + 1) * step, source + 1) - np.maximum(target * step, source)
        weights = np.maximum(overlap, 0) / step
    else:
        center = np.clip((target + 0.5) * step - 0.5, 0, n_from - 1)
        weights = np.maximum(1 - np.abs(center - source), 0)
    return weights.astype(np.float32)


@dataclass(frozen=True)
class GridFit:
    """How slices of `height`×`width` pixels lie on a grid of `size`×`size` cells: scaled, centered, padded."""

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
        down, across = sparse_resampling_matrix(self.height, rows), sparse_resampling_matrix(self.width, columns)
        _both_axes(slices, down, across, out[:, top : top + rows, left : left + columns])
        return out

    def invert(self, grids: NDArray, part: tuple[slice, slice] = (slice(None), slice(None))) -> NDArray[np.float32]:
        """Take (n, size, size) grid values back to float32 on the slices' own pixels, (n, height, width).

        `part` are the rows and columns of the slices that are wanted; by default all.
        """
        rows, columns = self.content
        top, left = self.offset
        content = grids[:, top : top + rows, left : left + columns]
        down = sparse_resampling_matrix(rows, self.height)[part[0]]
        across = sparse_resampling_matrix(columns, self.width)[part[1]]
        out = np.empty((len(grids), down.shape[0], across.shape[0]), np.float32)
        _both_axes(content, down, across, out)
        return out


@lru_cache(maxsize=64)
def sparse_resampling_matrix(n_from: int, n_to: int) -> csr_array:
    """The same weights as `resampling_matrix`, without the zeros."""
    return csr_array(resampling_matrix(n_from, n_to))


def _both_axes(slices: NDArray, down: csr_array, across: csr_array, out: NDArray[np.float32]) -> None:
    """Fill `out` with one matrix applied along the rows and one along the columns of each slice."""
    _, height, width = slices.shape
    # A slice that runs forward in memory is converted at once, five times faster than row by row: where an axis
    # runs backwards, its matrix is turned instead.
    if slices.strides[1] < 0:
        slices, down = slices[:, ::-1], down[:, ::-1]
    if slices.strides[2] < 0:
        slices, across = slices[:, :, ::-1], across[:, ::-1]
    # One set of buffers for all slices, since fresh memory costs more than the work. Rows of 512 pixels lie 2 kB
    # apart, all in the same few lines of the processor's cache, where turning them takes four times as long.
    real = np.empty((height, width), np.float32)
    by_rows = np.empty((down.shape[0], width + _ROW_GAP), np.float32)[:, :width]
    turned = np.empty(by_rows.shape[::-1], np.float32)
    for pixels, cells in zip(slices, out, strict=True):
        real[...] = pixels
        by_rows[...] = down @ real
        turned[...] = by_rows.T  # assigned, numpy walks along the memory
        cells[...] = (across @ turned).T


def fit_hu(slices_hu: NDArray, size: int) -> NDArray[np.int16]:
    """Fit (n, h, w) slices in HU to the network's (n, size, size) int16 grid, padded with air."""
    fit = GridFit(slices_hu.shape[1], slices_hu.shape[2], size)
    grids = fit.apply(slices_hu, AIR_HU)
    grids += TIE_BREAK_HU
    return np.rint(grids, out=grids).astype(np.int16)


def fit_mask(slices_mask: NDArray, size: int) -> NDArray[np.uint8]:
    """Fit (n, h, w) binary masks to (n, size, size) uint8 cell fractions: 0 none, 255 all of it lesion."""
    fit = GridFit(slices_mask.shape[1], slices_mask.shape[2], size)
    shares = np.zeros((len(slices_mask), size, size), np.uint8)
    with_lesion = [index for index, mask in enumerate(slices_mask) if np.count_nonzero(mask)]
    if with_lesion:
        part = slice(with_lesion[0], with_lesion[-1] + 1)
        shares[part] = np.rint(fit.apply(slices_mask[part], 0) * 255)
    return shares
