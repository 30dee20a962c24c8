"""Voxel counts at 256 probability levels: Dice at every threshold, the threshold choice, ROC and calibration.

One pass over a case fills the counts. Since 256 is a power of two, `probability >= k / 256` is exactly `level >= k`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.ct.metrics import Confusion
from components.runtime.errors import CohortError

LEVELS = 256
THRESHOLDS = np.arange(1, LEVELS) / LEVELS
_STEPS = 4096  # probabilities are summed in these steps, so their mean is off by at most 1/8192
_STEP_CENTERS = ((np.arange(_STEPS) + 0.5) / _STEPS).reshape(LEVELS, -1)
_BINS = 16  # of the reliability curve, 16 levels each


class LevelCounts:
    """Lesion and background voxels by predicted probability."""

    def __init__(self) -> None:
        self.lesion = np.zeros(LEVELS, np.int64)  # lesion voxels at each level
        self.background = np.zeros(LEVELS, np.int64)  # background voxels at each level
        self.mass = np.zeros(LEVELS, np.float64)  # sum of the probabilities at each level, each rounded to 1/8192

    @classmethod
    def pool(cls, cases: Iterable["LevelCounts"]) -> "LevelCounts":
        """Sum the counts of several cases."""
        total = cls()
        for case in cases:
            total.lesion += case.lesion
            total.background += case.background
            total.mass += case.mass
        return total

    def add(self, probability: NDArray[np.float32], truth: NDArray[np.bool_]) -> None:
        """Count (n, rows, columns) finite probabilities against the mask of the same voxels."""
        for voxels, lesion in zip(probability, truth, strict=True):
            # Interpolation may exceed 0 or 1 by a rounding error.
            step = np.clip(voxels * _STEPS, 0, _STEPS - 1).astype(np.intp)
            np.add(step, _STEPS, out=step, where=lesion)
            background, in_lesion = np.bincount(step.ravel(), minlength=2 * _STEPS).reshape(2, LEVELS, -1)
            self.background += background.sum(axis=1)
            self.lesion += in_lesion.sum(axis=1)
            self.mass += ((background + in_lesion) * _STEP_CENTERS).sum(axis=1)

    def confusion(self, threshold: float) -> Confusion:
        """Confusion counts at one of `THRESHOLDS`."""
        level = round(threshold * LEVELS)
        true_positive, false_positive = int(self.lesion[level:].sum()), int(self.background[level:].sum())
        return Confusion(
            true_positive=true_positive,
            false_positive=false_positive,
            false_negative=int(self.lesion.sum()) - true_positive,
            true_negative=int(self.background.sum()) - false_positive,
        )

    def roc(self) -> "Roc | None":
        """Voxel-wise ROC curve; None without lesion or without background."""
        if not (self.lesion.any() and self.background.any()):
            return None
        # From the highest threshold, where no voxel is positive, down to 0, where all are.
        true_positive_rate, false_positive_rate = (
            np.append(0, np.cumsum(counts[::-1])) / counts.sum() for counts in (self.lesion, self.background)
        )
        return Roc(np.arange(LEVELS, -1, -1) / LEVELS, true_positive_rate, false_positive_rate)

    def reliability(self) -> "Reliability":
        """Reliability curve over 16 equal bins; empty bins are left out."""
        lesion, background, mass = (
            counts.reshape(_BINS, -1).sum(axis=1) for counts in (self.lesion, self.background, self.mass)
        )
        voxels = lesion + background
        nonempty = voxels > 0
        return Reliability(mass[nonempty] / voxels[nonempty], lesion[nonempty] / voxels[nonempty], voxels[nonempty])


@dataclass(frozen=True)
class Roc:
    """A receiver operating characteristic at 257 thresholds from 1 down to 0."""

    threshold: NDArray[np.float64]
    true_positive_rate: NDArray[np.float64]  # fraction of lesion voxels at or above the threshold
    false_positive_rate: NDArray[np.float64]  # fraction of background voxels at or above the threshold

    @property
    def auc(self) -> float:
        """Area under the curve, by the trapezoidal rule."""
        return float(np.trapezoid(self.true_positive_rate, self.false_positive_rate))


@dataclass(frozen=True)
class Reliability:
    """Predicted probability and observed lesion fraction, by bin."""

    mean_probability: NDArray[np.float64]
    lesion_fraction: NDArray[np.float64]
    voxels: NDArray[np.int64]  # in each bin

    @property
    def expected_calibration_error(self) -> float:
        """ECE (Naeini et al., 2015): mean absolute gap between the two, weighted by voxels; 0 without voxels."""
        if not len(self.voxels):
            return 0.0
        return float(np.average(np.abs(self.mean_probability - self.lesion_fraction), weights=self.voxels))


@dataclass(frozen=True)
class ThresholdChoice:
    """The threshold chosen on the validation cases."""

    threshold: float  # one of `THRESHOLDS`, exact in float32; probabilities at or above it are lesion
    validation_dice: float  # mean Dice of the validation cases with lesion at the threshold
    curve: NDArray[np.float64]  # (255,) the same at each of `THRESHOLDS`


def choose_threshold(cases: Sequence[LevelCounts]) -> ThresholdChoice:
    """Choose the threshold with the highest mean Dice over the cases with lesion; of several, the closest to 0.5.

    Raises:
        CohortError: no case has lesion.
    """
    count, cases = len(cases), [case for case in cases if case.lesion.any()]
    if not cases:
        raise CohortError(
            f"no validation case of {count} has lesion; expected one to choose the threshold on; add scans with lesion"
        )
    curve = np.mean([[case.confusion(threshold).dice for threshold in THRESHOLDS] for case in cases], axis=0)
    index = min(np.flatnonzero(curve == curve.max()), key=lambda candidate: abs(THRESHOLDS[candidate] - 0.5))
    return ThresholdChoice(float(THRESHOLDS[index]), float(curve[index]), curve)
