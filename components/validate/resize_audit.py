"""What the network's grid costs: lesions too small for its cells, and the best Dice that is left.

A perfect model answers with the very shares that it was trained on. Taken back to the scan's own pixels and cut at
a threshold, they are still not the mask that a radiologist drew.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.ct.grid import GridFit, fit_mask
from components.ct.lesions import Lesions

THRESHOLDS = np.arange(0.05, 1, 0.05)
_HALF = 9  # the index of 0.5 in them
_SLICES = 16  # taken at a time, to bound memory


@dataclass(frozen=True)
class ResizeAudit:
    """One case on the network's grid and back, as a perfect model would have it.

    Attributes:
        case_id: the case.
        image_size: edge of the network's grid.
        lesions: lesions in the mask.
        lesions_lost: lesions of which no voxel is left at the threshold 0.5.
        lesion_voxels: voxels of all lesions.
        voxels_lost: lesion voxels that are not marked at the threshold 0.5.
        dice_at_half: Dice at the threshold 0.5.
        ceiling_dice: Dice at the best threshold: no model does better on this grid.
        best_threshold: that threshold.
    """

    case_id: str
    image_size: int
    lesions: int
    lesions_lost: int
    lesion_voxels: int
    voxels_lost: int
    dice_at_half: float
    ceiling_dice: float
    best_threshold: float


def audit_resize(case_id: str, slices_mask: NDArray, lesions: Lesions, image_size: int) -> ResizeAudit | None:
    """Fit (n, rows, columns) masks to the grid and take them back; None for a mask without lesion."""
    if not lesions.count:
        return None
    fit = GridFit(slices_mask.shape[1], slices_mask.shape[2], image_size)
    counts = np.zeros((2, len(THRESHOLDS) + 1), np.int64)  # background and lesion voxels, by thresholds reached
    kept = np.zeros(lesions.count + 1, bool)
    slices, rows, columns = lesions.box
    margin = 2 * -(-max(fit.height, fit.width) // image_size)
    near = _widened(rows, margin), _widened(columns, margin)
    lesion_at = tuple(
        slice(edge.start - wide.start, edge.stop - wide.start) for edge, wide in zip((rows, columns), near, strict=True)
    )
    masks = slices_mask[slices]
    for start in range(0, len(masks), _SLICES):
        part = masks[start : start + _SLICES]
        share = fit.invert(fit_mask(part, image_size), near) / np.float32(255)
        # A hair is added for rounding: a share of exactly one half reaches the threshold 0.5.
        reached = np.minimum((share + np.float32(1e-4)) / np.float32(THRESHOLDS[0]), len(THRESHOLDS)).astype(np.uint8)
        kept[lesions.labels[start : start + _SLICES][reached[:, *lesion_at] > _HALF]] = True
        reached[part[:, *near] != 0] += counts.shape[1]
        counts += np.bincount(reached.ravel(), minlength=counts.size).reshape(counts.shape)
    background, lesion = counts[:, ::-1].cumsum(axis=1)[:, -2::-1]  # voxels that reach each threshold
    dice = 2 * lesion / (lesion + background + lesions.voxels)
    best = int(dice.argmax())
    return ResizeAudit(
        case_id=case_id,
        image_size=image_size,
        lesions=lesions.count,
        lesions_lost=lesions.count - int(kept[1:].sum()),
        lesion_voxels=lesions.voxels,
        voxels_lost=lesions.voxels - int(lesion[_HALF]),
        dice_at_half=float(dice[_HALF]),
        ceiling_dice=float(dice[best]),
        best_threshold=float(THRESHOLDS[best]),
    )


def _widened(edge: slice, pixels: int) -> slice:
    return slice(max(0, edge.start - pixels), edge.stop + pixels)
