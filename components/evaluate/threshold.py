"""The probability from which on a voxel counts as lesion: chosen once, on the validation cases."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.evaluate.levels import THRESHOLDS, LevelCounts
from components.runtime.errors import CohortError


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
