"""Voxel-wise agreement of a predicted lesion mask with the ground truth.

Empty-mask policy for all overlap measures (Dice, IoU, sensitivity, precision): 1 if both masks are empty, 0 if exactly
one is. Every case has a finite value, and a false lesion in a healthy lung costs as much as a missed one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Voxel counts of the confusion matrix; lesion is positive."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def truth(self) -> int:
        """Lesion voxels in the ground truth."""
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
        """2·TP / (2·TP + FP + FN), the Dice coefficient (Dice, 1945)."""
        return self._overlap(2 * self.true_positive, self.truth + self.predicted)

    @property
    def iou(self) -> float:
        """TP / (TP + FP + FN), intersection over union (Jaccard, 1912)."""
        return self._overlap(self.true_positive, self.truth + self.false_positive)

    @property
    def sensitivity(self) -> float:
        """TP / (TP + FN), also called recall."""
        return self._overlap(self.true_positive, self.truth)

    @property
    def precision(self) -> float:
        """TP / (TP + FP)."""
        return self._overlap(self.true_positive, self.predicted)

    @property
    def specificity(self) -> float:
        """TN / (TN + FP); 1 without background."""
        background = self.true_negative + self.false_positive
        return self.true_negative / background if background else 1.0

    @property
    def accuracy(self) -> float:
        """(TP + TN) / all; near 1 even for an empty prediction, so no rule uses it."""
        return (self.true_positive + self.true_negative) / self.total if self.total else 1.0

    def _overlap(self, numerator: int, denominator: int) -> float:
        if not (self.truth and self.predicted):
            return float(self.truth == self.predicted)
        return numerator / denominator


def confusion(truth: NDArray, prediction: NDArray) -> Confusion:
    """Compare two masks, where every nonzero voxel is lesion; raise `ValueError` unless the shapes are equal."""
    if truth.shape != prediction.shape:
        raise ValueError(f"masks of shapes {truth.shape} and {prediction.shape} cannot be compared")
    truth, prediction = truth.astype(bool, copy=False), prediction.astype(bool, copy=False)
    both = int(np.count_nonzero(truth & prediction))
    truth_count, predicted_count = int(np.count_nonzero(truth)), int(np.count_nonzero(prediction))
    return Confusion(
        true_positive=both,
        false_positive=predicted_count - both,
        false_negative=truth_count - both,
        true_negative=truth.size - truth_count - predicted_count + both,
    )


def dice(truth: NDArray, prediction: NDArray) -> float:
    """Compute the Dice coefficient of two masks of the same shape, under the empty-mask policy."""
    return confusion(truth, prediction).dice
