"""The probability from which on a voxel counts as lesion: chosen once, on the validation cases.

Probabilities are counted into 256 levels. Since 256 is a power of two, `probability >= k / 256` holds exactly
where the level is `k` or more, so the Dice at every candidate threshold follows from one pass over a case.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.ct.errors import CohortError
from components.ct.metrics import Confusion

LEVELS = 256
THRESHOLDS = np.arange(1, LEVELS) / LEVELS


class LevelCounts:
    """How often each level of probability was given to a case's lesion voxels, and to its background.

    Attributes:
        lesion: (256,) int64, voxels of lesion at each level.
        background: (256,) int64, voxels of background at each level.
    """

    def __init__(self) -> None:
        self.lesion = np.zeros(LEVELS, np.int64)
        self.background = np.zeros(LEVELS, np.int64)

    def add(self, probability: NDArray[np.float32], truth: NDArray[np.bool_]) -> None:
        """Count (n, h, w) probabilities, finite, and the mask of the same voxels."""
        for voxels, lesion in zip(probability, truth, strict=True):
            # Interpolation may pass 0 or 1 by a rounding error.
            levels = np.clip(voxels * LEVELS, 0, LEVELS - 1).astype(np.uint8)
            in_lesion = np.bincount(levels[lesion], minlength=LEVELS)
            self.lesion += in_lesion
            self.background += np.bincount(levels.ravel(), minlength=LEVELS) - in_lesion

    def confusion(self, threshold: float) -> Confusion:
        """The confusion at one of `THRESHOLDS`."""
        level = round(threshold * LEVELS)
        true_positive, false_positive = int(self.lesion[level:].sum()), int(self.background[level:].sum())
        return Confusion(
            true_positive,
            false_positive,
            int(self.lesion.sum()) - true_positive,
            int(self.background.sum()) - false_positive,
        )

    def dice_curve(self) -> NDArray[np.float64]:
        """Dice at each of `THRESHOLDS`."""
        return np.array([self.confusion(threshold).dice for threshold in THRESHOLDS])


@dataclass(frozen=True)
class ThresholdChoice:
    """A threshold and what it was chosen by.

    Attributes:
        threshold: one of `THRESHOLDS`, exact in float32.
        validation_dice: mean Dice of the validation cases there.
        curve: (255,) mean Dice of the validation cases at each of `THRESHOLDS`.
    """

    threshold: float
    validation_dice: float
    curve: NDArray[np.float64]


def choose_threshold(cases: Sequence[LevelCounts]) -> ThresholdChoice:
    """Take the threshold of the best mean Dice over cases; of equally good ones, the closest to 0.5.

    Raises:
        CohortError: there is no case to choose by.
    """
    if not cases:
        raise CohortError("the validation split is empty, so no threshold can be chosen; use a larger cohort")
    curve = np.mean([case.dice_curve() for case in cases], axis=0)
    best = np.flatnonzero(curve == curve.max())
    index = min(best, key=lambda candidate: abs(THRESHOLDS[candidate] - 0.5))
    return ThresholdChoice(float(THRESHOLDS[index]), float(curve[index]), curve)
