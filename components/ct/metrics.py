"""How well a predicted lesion mask agrees with the radiologist's, counted in voxels of the scan's own grid.

The empty-mask policy, for every measure of overlap (Dice, IoU, sensitivity, precision): both masks empty is
1, exactly one of them empty is 0. So a number comes out for every case, never NaN, and a lesion invented in a
healthy lung costs as much as one that was missed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Confusion:
    """Voxels by what the truth and the prediction say of them: lesion or background.

    Attributes:
        true_positive: lesion in both.
        false_positive: predicted, but not lesion.
        false_negative: lesion, but not predicted.
        true_negative: background in both.
    """

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def truth(self) -> int:
        """Lesion voxels in the truth."""
        return self.true_positive + self.false_negative

    @property
    def predicted(self) -> int:
        """Lesion voxels in the prediction."""
        return self.true_positive + self.false_positive

    @property
    def total(self) -> int:
        """All voxels."""
        return self.truth + self.false_positive + self.true_negative

    @property
    def dice(self) -> float:
        """2·TP / (2·TP + FP + FN): the share that two masks have in common (Dice, 1945)."""
        return self._overlap(2 * self.true_positive, self.truth + self.predicted)

    @property
    def iou(self) -> float:
        """TP / (TP + FP + FN): intersection over union (Jaccard, 1912)."""
        return self._overlap(self.true_positive, self.truth + self.false_positive)

    @property
    def sensitivity(self) -> float:
        """TP / (TP + FN): the share of the lesion that was found; recall."""
        return self._overlap(self.true_positive, self.truth)

    @property
    def precision(self) -> float:
        """TP / (TP + FP): the share of the prediction that is lesion."""
        return self._overlap(self.true_positive, self.predicted)

    @property
    def specificity(self) -> float:
        """TN / (TN + FP): the share of the background that was left alone; 1 where there is no background."""
        background = self.true_negative + self.false_positive
        return self.true_negative / background if background else 1.0

    @property
    def accuracy(self) -> float:
        """(TP + TN) / all: near 1 for a model that marks nothing at all, so it never decides anything."""
        return (self.true_positive + self.true_negative) / self.total if self.total else 1.0

    def _overlap(self, part: int, whole: int) -> float:
        """A share under the empty-mask policy of this module."""
        if not (self.truth and self.predicted):
            return float(self.truth == self.predicted)
        return part / whole


def confusion(truth: NDArray, prediction: NDArray) -> Confusion:
    """Compare two masks of the same shape, where everything but 0 is lesion.

    Raises:
        ValueError: the shapes differ.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"masks of shapes {truth.shape} and {prediction.shape} cannot be compared")
    truth, prediction = truth.astype(bool, copy=False), prediction.astype(bool, copy=False)
    both = int(np.count_nonzero(truth & prediction))
    in_truth, predicted = int(np.count_nonzero(truth)), int(np.count_nonzero(prediction))
    neither = truth.size - in_truth - predicted + both
    return Confusion(both, predicted - both, in_truth - both, neither)


def dice(truth: NDArray, prediction: NDArray) -> float:
    """Dice of two masks of the same shape, 0 to 1; 1 where both are empty, 0 where one is."""
    return confusion(truth, prediction).dice


def volume_ml(mask: NDArray, spacing_mm: tuple[float, float, float]) -> float:
    """Volume of a mask in milliliters, from its voxels' size along each axis."""
    return int(np.count_nonzero(mask)) * float(np.prod(spacing_mm)) / 1000
