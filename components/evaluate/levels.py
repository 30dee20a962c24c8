"""Probabilities counted into 256 levels: one pass over a case gives its Dice at every threshold, ROC and calibration.

Since 256 is a power of two, `probability >= k / 256` holds exactly where the level is `k` or more.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.ct.metrics import Confusion

LEVELS = 256
THRESHOLDS = np.arange(1, LEVELS) / LEVELS
_FINE = 4096  # steps in which probabilities are summed up: their mean is off by 1/8192 at most
_FINE_CENTERS = ((np.arange(_FINE) + 0.5) / _FINE).reshape(LEVELS, -1)
_BINS = 16  # of the reliability curve, each of 16 levels


class LevelCounts:
    """How often each level of probability was given to lesion voxels, and to background.

    Attributes:
        lesion: (256,) int64, voxels of lesion at each level.
        background: (256,) int64, voxels of background at each level.
        mass: (256,) float64, the sum of the probabilities at each level, each of them to 1/8192.
    """

    def __init__(self) -> None:
        self.lesion = np.zeros(LEVELS, np.int64)
        self.background = np.zeros(LEVELS, np.int64)
        self.mass = np.zeros(LEVELS, np.float64)

    @classmethod
    def pooled(cls, cases: Iterable["LevelCounts"]) -> "LevelCounts":
        """The counts of several cases together."""
        pool = cls()
        for case in cases:
            pool.lesion += case.lesion
            pool.background += case.background
            pool.mass += case.mass
        return pool

    def add(self, probability: NDArray[np.float32], truth: NDArray[np.bool_]) -> None:
        """Count (n, h, w) probabilities, finite, and the mask of the same voxels."""
        for voxels, lesion in zip(probability, truth, strict=True):
            # Interpolation may pass 0 or 1 by a rounding error.
            fine = np.clip(voxels * _FINE, 0, _FINE - 1).astype(np.intp)
            np.add(fine, _FINE, out=fine, where=lesion)
            background, in_lesion = np.bincount(fine.ravel(), minlength=2 * _FINE).reshape(2, LEVELS, -1)
            self.background += background.sum(axis=1)
            self.lesion += in_lesion.sum(axis=1)
            self.mass += ((background + in_lesion) * _FINE_CENTERS).sum(axis=1)

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

    def roc(self) -> "Roc | None":
        """The ROC curve of voxels; None without lesion or without background, where it is not defined."""
        if not (self.lesion.any() and self.background.any()):
            return None
        # From the strictest threshold, which marks nothing, to 0, which marks everything.
        found, raised = (np.append(0, np.cumsum(of[::-1])) / of.sum() for of in (self.lesion, self.background))
        return Roc(np.arange(LEVELS, -1, -1) / LEVELS, found, raised)

    def reliability(self) -> "Reliability":
        """How far probabilities can be taken at their word."""
        voxels = (self.lesion + self.background).reshape(_BINS, -1).sum(axis=1)
        lesion, mass = (of.reshape(_BINS, -1).sum(axis=1) for of in (self.lesion, self.mass))
        filled = voxels > 0
        return Reliability(mass[filled] / voxels[filled], lesion[filled] / voxels[filled], voxels[filled])


@dataclass(frozen=True)
class Roc:
    """A receiver operating characteristic, by threshold from 1 down to 0.

    Attributes:
        threshold: (257,), the probability from which on a voxel counts as lesion.
        true_positive_rate: (257,), share of the lesion voxels that are marked; 0 at the start, 1 at the end.
        false_positive_rate: (257,), share of the background voxels that are marked.
    """

    threshold: NDArray[np.float64]
    true_positive_rate: NDArray[np.float64]
    false_positive_rate: NDArray[np.float64]

    @property
    def auc(self) -> float:
        """The area under the curve, by trapezia."""
        return float(np.trapezoid(self.true_positive_rate, self.false_positive_rate))


@dataclass(frozen=True)
class Reliability:
    """What became of voxels by the probability they were given, in bins of 1/16; empty bins are left out.

    Attributes:
        probability: mean probability of each bin.
        lesion_share: share of each bin's voxels that are lesion.
        voxels: number of each bin's voxels.
    """

    probability: NDArray[np.float64]
    lesion_share: NDArray[np.float64]
    voxels: NDArray[np.int64]

    @property
    def expected_calibration_error(self) -> float:
        """ECE (Naeini et al., 2015): how far probability and share lie apart, weighted by the voxels; 0 without any."""
        if not len(self.voxels):
            return 0.0
        return float(np.average(np.abs(self.probability - self.lesion_share), weights=self.voxels))
