"""Losses and metric against values computed by hand."""

from math import log

import numpy as np
import pytest

from components.train.losses import FocalDiceLoss, PooledDice, focal_cross_entropy, soft_dice_loss
from components.train.recipe import Recipe

TRUTH = np.array([[[1.0, 0.0]], [[0.0, 0.0]]], np.float32)
PROBABILITY = np.array([[[0.8, 0.4]], [[0.1, 0.1]]], np.float32)


def mean(losses) -> float:
    assert losses.shape == (2,)
    return float(np.mean(losses))


def test_focal_cross_entropy_with_gamma_0_is_cross_entropy():
    expected = -(log(0.8) + log(0.6) + 2 * log(0.9)) / 4
    assert mean(focal_cross_entropy(TRUTH, PROBABILITY, alpha=None, gamma=0.0)) == pytest.approx(expected, rel=1e-5)


def test_focal_cross_entropy_weights_by_alpha_and_confidence():
    lesion = 0.8 * 0.2**2 * -log(0.8)
    others = 0.2 * (0.4**2 * -log(0.6) + 2 * 0.1**2 * -log(0.9))
    assert mean(focal_cross_entropy(TRUTH, PROBABILITY, alpha=0.8, gamma=2.0)) == pytest.approx(
        (lesion + others) / 4, rel=1e-5
    )


def test_soft_dice_per_slice_averages_the_slices():
    with_lesion = 1 - (2 * 0.8 + 1) / (1 + 1.2 + 1)
    without = 1 - 1 / (0.2 + 1)
    expected = (with_lesion + without) / 2
    assert mean(soft_dice_loss(TRUTH, PROBABILITY, "slice")) == pytest.approx(expected, rel=1e-5)


def test_soft_dice_per_batch_pools_the_slices():
    expected = 1 - (2 * 0.8 + 1) / (1 + 1.4 + 1)
    assert mean(soft_dice_loss(TRUTH, PROBABILITY, "batch")) == pytest.approx(expected, rel=1e-5)


def test_a_perfect_prediction_has_no_loss():
    for truth in (TRUTH, 0 * TRUTH):
        assert mean(soft_dice_loss(truth, truth, "slice")) == pytest.approx(0, abs=1e-6)
        assert mean(focal_cross_entropy(truth, truth, alpha=None, gamma=2.0)) == pytest.approx(0, abs=1e-6)


def test_the_compound_loss_is_the_weighted_sum_of_its_terms():
    loss = FocalDiceLoss(Recipe(focal_weight=0.8, focal_alpha=0.8, focal_gamma=2.0, dice_weight=0.2, dice_per="batch"))
    focal, dice = (
        focal_cross_entropy(TRUTH, PROBABILITY, alpha=0.8, gamma=2.0),
        soft_dice_loss(TRUTH, PROBABILITY, "batch"),
    )
    assert float(loss(TRUTH, PROBABILITY)) == pytest.approx(0.8 * mean(focal) + 0.2 * mean(dice), rel=1e-5)


def test_pooled_dice_counts_cells_over_batches():
    metric = PooledDice()
    assert float(metric.result()) == 0
    metric.update_state(TRUTH, PROBABILITY)  # 1 predicted of 1
    metric.update_state(TRUTH, 1 - PROBABILITY)  # predicts the other 3 of 4
    assert float(metric.result()) == pytest.approx(2 * 1 / (2 + 4), rel=1e-6)
