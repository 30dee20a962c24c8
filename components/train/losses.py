"""Losses and the training metric for lesion shares (0 to 1 in each cell) and probabilities.

Losses have one value for each slice; Keras averages them over the batch of all replicas.
"""

from typing import Any

import keras
from keras import ops

from components.train.recipe import Recipe

# Added to numerator and denominator, in cells: keeps a gradient toward an empty prediction in slices without lesion.
DICE_SMOOTHING_CELLS = 1.0


def focal_cross_entropy(truth: Any, probability: Any, *, alpha: float | None, gamma: float) -> Any:
    """Compute the binary focal cross-entropy (Lin et al., 2017), averaged over each slice's cells, (n,).

    Args:
        truth: (n, rows, columns) lesion shares.
        probability: of the same shape.
        alpha: weight of lesion, 1 - alpha for the background; None weighs both by 1.
        gamma: focusing exponent; 0 is plain cross-entropy.
    """
    per_row = keras.losses.binary_focal_crossentropy(
        truth, probability, apply_class_balancing=alpha is not None, alpha=alpha or 0.0, gamma=gamma
    )
    return ops.mean(per_row, axis=1)


def soft_dice_loss(truth: Any, probability: Any, per: str) -> Any:
    """Compute 1 minus the Dice of probabilities (Milletari et al., 2016, with plain sums), (n,).

    Args:
        truth: (n, rows, columns) lesion shares.
        probability: of the same shape.
        per: `slice`, or `batch`, which assigns the loss of the whole batch to every slice.
    """
    axes = {"slice": (1, 2), "batch": (0, 1, 2)}[per]
    shared = ops.sum(truth * probability, axis=axes)
    total = ops.sum(truth, axis=axes) + ops.sum(probability, axis=axes)
    loss = 1 - (2 * shared + DICE_SMOOTHING_CELLS) / (total + DICE_SMOOTHING_CELLS)
    return ops.broadcast_to(loss, (ops.shape(truth)[0],))


class FocalDiceLoss(keras.losses.Loss):
    """Weighted sum of focal cross-entropy and soft Dice loss, as the recipe sets; a weight of 0 disables a term."""

    def __init__(self, recipe: Recipe):
        super().__init__(name="focal_dice", dtype="float32")
        self._recipe = recipe

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Compute one value for each slice."""
        recipe, loss = self._recipe, 0.0
        if recipe.focal_weight:
            focal = focal_cross_entropy(y_true, y_pred, alpha=recipe.focal_alpha, gamma=recipe.focal_gamma)
            loss += recipe.focal_weight * focal
        if recipe.dice_weight:
            loss += recipe.dice_weight * soft_dice_loss(y_true, y_pred, recipe.dice_per)
        return loss


class PooledDice(keras.metrics.Metric):
    """Dice at threshold 0.5, pooled over all cells of an epoch."""

    def __init__(self) -> None:
        super().__init__(name="dice", dtype="float32")
        self.shared = self.add_weight(shape=(), initializer="zeros", name="shared")
        self.total = self.add_weight(shape=(), initializer="zeros", name="total")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch."""
        prediction = ops.cast(y_pred >= 0.5, "float32")
        self.shared.assign_add(ops.sum(y_true * prediction))
        self.total.assign_add(ops.sum(y_true) + ops.sum(prediction))

    def result(self) -> Any:
        """Return the Dice; 0 if neither truth nor prediction has lesion."""
        return ops.divide_no_nan(2 * self.shared, self.total)
