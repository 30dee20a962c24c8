"""Losses and the training metric, for lesion shares (0 to 1 in each grid cell) against probabilities.

A loss is one number for each slice: Keras averages them, over all replicas of a network where there are several.
"""

from typing import Any

import keras
from keras import ops

# Added to both parts of the fraction, in cells: a slice without lesion then asks for no lesion, gently.
DICE_SMOOTHING_CELLS = 1.0


def focal_cross_entropy(truth: Any, probability: Any, alpha: float | None, gamma: float) -> Any:
    """Binary focal cross-entropy (Lin et al., 2017), mean over the cells of each slice, (n,).

    Args:
        truth: (n, rows, columns) lesion shares.
        probability: of the same shape.
        alpha: weight of lesion, 1 - alpha of the rest; None weighs both by 1.
        gamma: exponent on what is missing to certainty; 0 is plain cross-entropy.
    """
    per_row = keras.losses.binary_focal_crossentropy(
        truth, probability, apply_class_balancing=alpha is not None, alpha=alpha or 0.0, gamma=gamma
    )
    return ops.mean(per_row, axis=1)


def soft_dice_loss(truth: Any, probability: Any, per: str) -> Any:
    """1 minus the Dice of probabilities (Milletari et al., 2016, with plain sums), (n,).

    Args:
        truth: (n, rows, columns) lesion shares.
        probability: of the same shape.
        per: `slice`, or `batch`, which gives each slice the loss of all of them together.
    """
    axes = {"slice": (1, 2), "batch": (0, 1, 2)}[per]
    shared = ops.sum(truth * probability, axis=axes)
    total = ops.sum(truth, axis=axes) + ops.sum(probability, axis=axes)
    loss = 1 - (2 * shared + DICE_SMOOTHING_CELLS) / (total + DICE_SMOOTHING_CELLS)
    return ops.broadcast_to(loss, (ops.shape(truth)[0],))


class FocalDiceLoss(keras.losses.Loss):
    """Weighted sum of the focal cross-entropy and the soft Dice loss; a weight of 0 leaves one out."""

    def __init__(
        self, focal_weight: float, focal_alpha: float | None, focal_gamma: float, dice_weight: float, dice_per: str
    ):
        super().__init__(name="focal_dice", dtype="float32")
        self.focal_weight = focal_weight
        self.focal_alpha = focal_alpha
        self.focal_gamma = focal_gamma
        self.dice_weight = dice_weight
        self.dice_per = dice_per

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """One number for each slice."""
        loss = 0.0
        if self.focal_weight:
            loss += self.focal_weight * focal_cross_entropy(y_true, y_pred, self.focal_alpha, self.focal_gamma)
        if self.dice_weight:
            loss += self.dice_weight * soft_dice_loss(y_true, y_pred, self.dice_per)
        return loss


class PooledDice(keras.metrics.Metric):
    """Dice at probability 0.5 of all cells of an epoch taken together, so that empty slices weigh nothing."""

    def __init__(self) -> None:
        super().__init__(name="dice", dtype="float32")
        self.shared = self.add_weight(shape=(), initializer="zeros", name="shared")
        self.total = self.add_weight(shape=(), initializer="zeros", name="total")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count a batch."""
        found = ops.cast(y_pred >= 0.5, "float32")
        self.shared.assign_add(ops.sum(y_true * found))
        self.total.assign_add(ops.sum(y_true) + ops.sum(found))

    def result(self) -> Any:
        """The Dice so far; 0 before any lesion was there or found."""
        return ops.divide_no_nan(2 * self.shared, self.total)
