"""The cost of resampling to the network's grid: the Dice of a mask with itself after the round trip to it and back."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.ct.grid import GridFit, fit_mask
from components.ct.masks import bounding_box

THRESHOLDS = np.arange(1, 20) / 20
HALF_INDEX = 9  # index of the threshold 0.5
_BATCH = 16  # slices at a time, to bound memory
_ROUNDING = 1e-4  # a share of exactly 0.5 reaches the threshold 0.5


@dataclass(frozen=True)
class RoundTrip:
    """A mask after the round trip, thresholded."""

    dice: NDArray[np.float64]  # (19,) with the original mask at each of `THRESHOLDS`; 1 for an empty mask
    mask_at_half: NDArray[np.bool_]  # (n, rows, columns) at the threshold 0.5


def round_trip(mask: NDArray, size: int) -> RoundTrip:
    """Fit an (n, rows, columns) binary mask to a grid of `size`×`size` cells and back."""
    fit = GridFit.for_slices(mask, size)
    mask_at_half = np.zeros(mask.shape, bool)
    # Voxels by the number of thresholds they reach: background, then lesion.
    counts = np.zeros((2, len(THRESHOLDS) + 1), np.int64)
    box = bounding_box(mask)
    if box is None:
        return RoundTrip(np.ones(len(THRESHOLDS)), mask_at_half)
    for start in range(box[0].start, box[0].stop, _BATCH):
        batch = slice(start, min(start + _BATCH, box[0].stop))
        near = _near_lesion(mask[batch], fit)
        lesion = mask[batch][:, *near] != 0
        share = fit.invert(fit_mask(mask[batch], size), near) / np.float32(255)
        threshold_count = np.minimum((share + np.float32(_ROUNDING)) * 20, len(THRESHOLDS)).astype(np.uint8)
        mask_at_half[batch, *near] = threshold_count > HALF_INDEX
        threshold_count[lesion] += counts.shape[1]
        counts += np.bincount(threshold_count.ravel(), minlength=counts.size).reshape(counts.shape)
    false_positive, true_positive = counts[:, ::-1].cumsum(axis=1)[:, -2::-1]
    return RoundTrip(2 * true_positive / (true_positive + false_positive + counts[1].sum()), mask_at_half)


def round_trip_dice(mask: NDArray, size: int) -> float:
    """Dice of an (n, rows, columns) mask with itself after the round trip, at the best threshold.

    A network that reproduces the downsampled mask exactly scores this Dice. It is not an upper bound: a network
    that places sub-cell detail elsewhere in its probabilities, or an ensemble of grids, can score higher.
    """
    return float(round_trip(mask, size).dice.max())


def _near_lesion(mask: NDArray, fit: GridFit) -> tuple[slice, slice]:
    """Rows and columns within two cells of any lesion, which the round trip never exceeds."""
    box = bounding_box(mask)
    if box is None:
        return slice(0), slice(0)
    margin = 2 * -(-max(fit.height, fit.width) // fit.size) + 1
    rows, columns = (slice(max(0, edge.start - margin), edge.stop + margin) for edge in box[1:])
    return rows, columns
