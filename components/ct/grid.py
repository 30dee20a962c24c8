"""Axial slices on the network's square grid and back, and the axis order of slices.

A slice has the orientation of a radiological display: rows run from anterior to posterior, columns from the patient's
right to left. DICOM pixel arrays of axial scans have the same order.

The resampling is linear and separable, one matrix per axis: shrinking averages over the area of each grid cell (which
preserves the sum of a mask, and with it the lesion volume), enlarging interpolates linearly. `serving_default` builds
the same matrices in the graph. Here they are sparse, since each cell depends on few pixels of a row or column.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from components.runtime.errors import VolumeError

# Averages of integer HU often end in .5; this offset makes every implementation round them alike.
TIE_BREAK_HU = 2**-10
MAX_EDGE = 4096  # pixels: twice the finest CT matrix (2048); bounds the resampling matrices
AIR_HU = -1000  # CT numbers are scaled to -1000 for air and 0 for water (Hounsfield, 1973)
_ROW_PADDING = 16  # pixels: one cache line


def axial_slices(volume: NDArray) -> NDArray:
    """View an (x, y, z) volume in RAS+ as (z, rows, columns) slices, anterior and right first."""
    return volume[::-1, ::-1, :].transpose(2, 1, 0)


def volume_from_axial_slices(slices: NDArray) -> NDArray:
    """View (z, rows, columns) slices as an (x, y, z) volume in RAS+."""
    return slices.transpose(2, 1, 0)[::-1, ::-1, :]


def resampling_matrix(*, n_from: int, n_to: int) -> NDArray[np.float32]:
    """Compute the weights that resample `n_from` samples to `n_to` over the same extent.

    Returns:
        (n_to, n_from) float32 with rows that sum to 1: area averages if `n_to <= n_from`, otherwise linear
        interpolation between sample centers, with the outermost samples extended to the edge.
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


@lru_cache(maxsize=64)
def sparse_resampling_matrix(*, n_from: int, n_to: int) -> csr_array:
    """Compute `resampling_matrix` as a sparse array."""
    return csr_array(resampling_matrix(n_from=n_from, n_to=n_to))


@dataclass(frozen=True, kw_only=True)
class GridFit:
    """Placement of `height`×`width` slices on a `size`×`size` grid: scaled, centered and padded.

    Raises:
        VolumeError: an edge of the slices is not 1 to `MAX_EDGE`.
    """

    height: int
    width: int
    size: int

    def __post_init__(self) -> None:  # noqa: D105
        if not 1 <= min(self.height, self.width) <= max(self.height, self.width) <= MAX_EDGE:
            raise VolumeError(
                f"slices of {self.height}×{self.width} pixels; expected 1 to {MAX_EDGE} rows and columns; crop or "
                "resample the scan"
            )

    @classmethod
    def for_slices(cls, slices: NDArray, size: int) -> Self:
        """Fit (n, height, width) slices."""
        return cls(height=slices.shape[1], width=slices.shape[2], size=size)

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
        """Fit (n, height, width) slices to (n, size, size) float32, with `padding` around the content."""
        rows, columns = self.content
        top, left = self.offset
        grids = np.full((len(slices), self.size, self.size), padding, np.float32)
        down = sparse_resampling_matrix(n_from=self.height, n_to=rows)
        across = sparse_resampling_matrix(n_from=self.width, n_to=columns)
        _resample(slices, down, across, grids[:, top : top + rows, left : left + columns])
        return grids

    def invert(self, grids: NDArray, region: tuple[slice, slice] = (slice(None), slice(None))) -> NDArray[np.float32]:
        """Resample (n, size, size) grid values to the slices' own pixels, (n, height, width) float32.

        `region` selects rows and columns of the slices; by default all.
        """
        rows, columns = self.content
        top, left = self.offset
        content = grids[:, top : top + rows, left : left + columns]
        down = sparse_resampling_matrix(n_from=rows, n_to=self.height)[region[0]]
        across = sparse_resampling_matrix(n_from=columns, n_to=self.width)[region[1]]
        slices = np.empty((len(grids), down.shape[0], across.shape[0]), np.float32)
        _resample(content, down, across, slices)
        return slices


def fit_hu(slices_hu: NDArray, size: int) -> NDArray[np.int16]:
    """Fit (n, h, w) slices in HU to the network's (n, size, size) int16 grid, padded with air."""
    grids = GridFit.for_slices(slices_hu, size).apply(slices_hu, AIR_HU)
    grids += TIE_BREAK_HU
    return np.rint(grids, out=grids).astype(np.int16)


def fit_mask(slices_mask: NDArray, size: int) -> NDArray[np.uint8]:
    """Fit (n, h, w) binary masks to the (n, size, size) uint8 lesion share of each cell, 0 to 255."""
    shares = np.zeros((len(slices_mask), size, size), np.uint8)
    with_lesion = [index for index, mask in enumerate(slices_mask) if np.count_nonzero(mask)]
    if with_lesion:
        part = slice(with_lesion[0], with_lesion[-1] + 1)
        shares[part] = np.rint(GridFit.for_slices(slices_mask, size).apply(slices_mask[part], 0) * 255)
    return shares


def _resample(slices: NDArray, down: csr_array, across: csr_array, out: NDArray[np.float32]) -> None:
    """Apply one matrix along the rows and one along the columns of each slice, into `out`."""
    _, height, width = slices.shape
    # Converting a slice that runs forward in memory is five times faster: flip the matrix of a reversed axis instead.
    if slices.strides[1] < 0:
        slices, down = slices[:, ::-1], down[:, ::-1]
    if slices.strides[2] < 0:
        slices, across = slices[:, :, ::-1], across[:, ::-1]
    # Buffers are reused because fresh memory costs more than the work. Padding rows to an odd number of cache lines
    # avoids conflict misses at 512 pixels, where the transposition would take four times as long.
    pixels = np.empty((height, width), np.float32)
    by_rows = np.empty((down.shape[0], width + _ROW_PADDING), np.float32)[:, :width]
    transposed = np.empty(by_rows.shape[::-1], np.float32)
    for source, target in zip(slices, out, strict=True):
        pixels[...] = source
        by_rows[...] = down @ pixels
        transposed[...] = by_rows.T  # a copy walks along the memory
        target[...] = (across @ transposed).T
