"""Losses against values worked out by hand."""

from math import log

import numpy as np
import pytest

from components.train.losses import FocalDiceLoss, PooledDice, focal_cross_entropy, soft_dice_loss

TRUTH = np.array([[[1.0, 0.0]], [[0.0, 0.0]]], np.float32)
PROBABILITY = np.array([[[0.8, 0.4]], [[0.1, 0.1]]], np.float32)


def mean(of_slices) -> float:
    assert of_slices.shape == (2,)
    return float(np.mean(of_slices))


def test_focal_cross_entropy_without_focus_is_the_mean_cross_entropy():
    expected = -(log(0.8) + log(0.6) + 2 * log(0.9)) / 4
    assert mean(focal_cross_entropy(TRUTH, PROBABILITY, None, 0.0)) == pytest.approx(expected, rel=1e-5)


def test_focal_cross_entropy_weighs_by_alpha_and_by_what_is_missing_to_certainty():
    lesion = 0.8 * 0.2**2 * -log(0.8)
    others = 0.2 * (0.4**2 * -log(0.6) + 2 * 0.1**2 * -log(0.9))
    assert mean(focal_cross_entropy(TRUTH, PROBABILITY, 0.8, 2.0)) == pytest.approx((lesion + others) / 4, rel=1e-5)


def test_soft_dice_per_slice_averages_the_slices():
    with_lesion = 1 - (2 * 0.8 + 1) / (1 + 1.2 + 1)
    without = 1 - 1 / (0.2 + 1)
    expected = (with_lesion + without) / 2
    assert mean(soft_dice_loss(TRUTH, PROBABILITY, "slice")) == pytest.approx(expected, rel=1e-5)


def test_soft_dice_per_batch_pools_the_slices():
    expected = 1 - (2 * 0.8 + 1) / (1 + 1.4 + 1)
    assert mean(soft_dice_loss(TRUTH, PROBABILITY, "batch")) == pytest.approx(expected, rel=1e-5)


def test_a_perfect_answer_costs_nothing_with_lesion_or_without():
    for truth in (TRUTH, 0 * TRUTH):
        assert mean(soft_dice_loss(truth, truth, "slice")) == pytest.approx(0, abs=1e-6)
        assert mean(focal_cross_entropy(truth, truth, None, 2.0)) == pytest.approx(0, abs=1e-6)


def test_the_compound_loss_is_the_weighted_sum_of_its_parts():
    loss = FocalDiceLoss(0.8, 0.8, 2.0, 0.2, "batch")
    focal, dice = focal_cross_entropy(TRUTH, PROBABILITY, 0.8, 2.0), soft_dice_loss(TRUTH, PROBABILITY, "batch")
    assert float(loss(TRUTH, PROBABILITY)) == pytest.approx(0.8 * mean(focal) + 0.2 * mean(dice), rel=1e-5)


def test_pooled_dice_counts_cells_over_batches():
    metric = PooledDice()
    assert float(metric.result()) == 0
    metric.update_state(TRUTH, PROBABILITY)  # 1 found of 1
    metric.update_state(TRUTH, 1 - PROBABILITY)  # finds the other 3 of 4
    assert float(metric.result()) == pytest.approx(2 * 1 / (2 + 4), rel=1e-6)
