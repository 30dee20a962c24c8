"""The cost of the network's grid for each case: lost lesions, and the Dice after a round trip."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.ct.lesions import Lesions
from components.ct.round_trip import HALF_INDEX, THRESHOLDS, round_trip


@dataclass(frozen=True)
class ResizeAudit:
    """One case's mask against itself after the round trip of `components.ct.round_trip`."""

    case_id: str
    image_size: int
    lesions: int
    lesions_lost: int  # without any voxel at the threshold 0.5
    lesion_voxels: int
    voxels_lost: int  # lesion voxels not marked at the threshold 0.5
    dice_at_half: float
    round_trip_dice: float  # at the best threshold
    best_threshold: float


def audit_resize(case_id: str, slices_mask: NDArray, lesions: Lesions, image_size: int) -> ResizeAudit | None:
    """Audit the round trip of (n, rows, columns) masks; None for a mask without lesion."""
    if not lesions.count:
        return None
    result = round_trip(slices_mask, image_size)
    best = int(result.dice.argmax())
    return ResizeAudit(
        case_id=case_id,
        image_size=image_size,
        lesions=lesions.count,
        lesions_lost=lesions.count - lesions.count_touched(result.mask_at_half),
        lesion_voxels=lesions.voxels,
        voxels_lost=lesions.voxels - int(np.count_nonzero(result.mask_at_half & (slices_mask != 0))),
        dice_at_half=float(result.dice[HALF_INDEX]),
        round_trip_dice=float(result.dice[best]),
        best_threshold=float(THRESHOLDS[best]),
    )
