"""Probability levels: exact counts at every threshold, the threshold choice, ROC and calibration by definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from components.ct.metrics import confusion
from components.evaluate.levels import LEVELS, THRESHOLDS, LevelCounts, choose_threshold
from components.runtime.errors import CohortError

SHAPE = (2, 3, 4)


def count(probability, truth) -> LevelCounts:
    counts = LevelCounts()
    counts.add(np.asarray(probability, np.float32).reshape(1, 1, -1), np.asarray(truth, bool).reshape(1, 1, -1))
    return counts


@given(
    hnp.arrays(np.float32, SHAPE, elements=st.floats(0, 1, width=32)),
    hnp.arrays(bool, SHAPE),
    st.sampled_from(list(THRESHOLDS)),
)
def test_counts_give_the_exact_confusion_of_the_thresholded_mask(probability, truth, threshold):
    counts = LevelCounts()
    counts.add(probability, truth)
    assert counts.confusion(threshold) == confusion(truth, probability >= threshold)


@pytest.mark.parametrize("threshold", list(THRESHOLDS[::15]))
def test_a_probability_equal_to_the_threshold_counts_as_lesion(threshold):
    just_below = np.nextafter(np.float32(threshold), np.float32(0))
    assert count([threshold, just_below], [True, True]).confusion(threshold).true_positive == 1


def test_probabilities_slightly_outside_0_to_1_are_clipped():
    assert count([1.0000001, 1.0, -1e-8], [True, True, False]).confusion(255 / 256).dice == 1.0


def test_counts_of_parts_add_up_and_pool_to_the_counts_of_the_whole():
    rng = np.random.default_rng(1)
    probability, truth = rng.random((6, 5, 4), np.float32), rng.random((6, 5, 4)) < 0.3
    whole, parts, first, second = (LevelCounts() for _ in range(4))
    whole.add(probability, truth)
    for counts, part in ((parts, slice(4)), (parts, slice(4, 6)), (first, slice(4)), (second, slice(4, 6))):
        counts.add(probability[part], truth[part])
    for counts in (parts, LevelCounts.pool([first, second])):
        np.testing.assert_array_equal(counts.lesion, whole.lesion)
        np.testing.assert_array_equal(counts.background, whole.background)
        np.testing.assert_allclose(counts.mass, whole.mass)
    assert whole.lesion.sum() + whole.background.sum() == 120
    assert first.lesion.sum() < whole.lesion.sum()


def test_every_level_counts_its_voxels_and_sums_their_probabilities():
    rng = np.random.default_rng(3)
    probability = rng.random((1, 8, 8), np.float32)
    truth = rng.random((1, 8, 8)) < 0.3
    counts = LevelCounts()
    counts.add(probability, truth)
    levels = np.floor(probability * LEVELS).astype(int)
    for level in range(LEVELS):
        here = levels == level
        assert counts.lesion[level] == (here & truth).sum()
        assert counts.background[level] == (here & ~truth).sum()
        assert counts.mass[level] == pytest.approx(probability[here].sum(), abs=here.sum() / 8192 + 1e-6)


def test_the_roc_curve_matches_its_definition_at_every_threshold():
    rng = np.random.default_rng(4)
    truth = rng.random(500) < 0.3
    probability = np.clip(0.4 * truth + 0.6 * rng.random(500), 0, 1).astype(np.float32)
    roc = count(probability, truth).roc()
    for threshold, tpr, fpr in zip(roc.threshold, roc.true_positive_rate, roc.false_positive_rate, strict=True):
        predicted = probability >= threshold if threshold < 1 else np.zeros(500, bool)
        assert tpr == pytest.approx((predicted & truth).sum() / truth.sum())
        assert fpr == pytest.approx((predicted & ~truth).sum() / (~truth).sum())
    # The fraction of correctly ordered pairs, up to the width of a level.
    pairs = probability[truth][:, None] - probability[~truth]
    assert roc.auc == pytest.approx((pairs > 0).mean() + (pairs == 0).mean() / 2, abs=0.005)


def test_a_perfect_ranking_has_an_auc_of_1_and_a_reversed_one_of_0():
    assert count([0.9, 0.1], [True, False]).roc().auc == 1.0
    assert count([0.1, 0.9], [True, False]).roc().auc == 0.0


@pytest.mark.parametrize("truth", [[True, True], [False, False]])
def test_roc_is_undefined_without_lesion_or_without_background(truth):
    assert count([0.2, 0.9], truth).roc() is None


def test_calibration_matches_a_hand_computed_example():
    # Two bins: 0.03125 twice with one lesion, 0.75 twice with both lesion.
    reliability = count([1 / 32, 1 / 32, 0.75, 0.75], [True, False, True, True]).reliability()
    np.testing.assert_allclose(reliability.mean_probability, [1 / 32, 0.75], atol=1 / 8192)
    np.testing.assert_allclose(reliability.lesion_fraction, [0.5, 1.0])
    np.testing.assert_array_equal(reliability.voxels, [2, 2])
    assert reliability.expected_calibration_error == pytest.approx((0.5 - 1 / 32) / 2 + 0.25 / 2, abs=1 / 8192)


def test_the_calibration_error_matches_its_definition_on_random_voxels():
    rng = np.random.default_rng(5)
    probability = rng.random(3000).astype(np.float32) ** 4
    truth = rng.random(3000) < probability * 0.7
    expected = 0.0
    for low in np.arange(16) / 16:
        here = (probability >= low) & (probability < low + 1 / 16)
        if here.any():
            expected += here.mean() * abs(probability[here].mean(dtype=np.float64) - truth[here].mean())
    error = count(probability, truth).reliability().expected_calibration_error
    assert error == pytest.approx(expected, abs=1 / 8192)
    assert error > 0.01


def test_the_calibration_error_without_voxels_is_0():
    assert LevelCounts().reliability().expected_calibration_error == 0.0


def test_the_threshold_maximizes_the_mean_dice_over_cases_not_over_pooled_voxels():
    # The large case is best at 0.25, the two small ones at 0.75.
    large = count([0.3] * 100 + [0.1] * 100, [True] * 100 + [False] * 100)
    small = count([0.8, 0.6, 0.6, 0.6], [True, False, False, False])
    choice = choose_threshold([large, small, small])
    assert 0.6 < choice.threshold <= 0.8
    assert choice.validation_dice == pytest.approx(2 / 3)
    pooled_best = choose_threshold([large])
    assert 0.1 < pooled_best.threshold <= 0.3


def test_the_threshold_closest_to_a_half_wins_a_tie():
    assert choose_threshold([count([0.9, 0.1], [True, False])]).threshold == 0.5
    above = choose_threshold([count([0.9, 0.7], [True, False])])
    assert above.threshold == 180 / 256  # the first above 0.7


def test_cases_without_lesion_do_not_move_the_threshold_and_cannot_choose_one():
    lesion, healthy = count([0.9, 0.6, 0.6], [True, True, False]), count([0.7, 0.1], [False, False])
    alone, among = choose_threshold([lesion]), choose_threshold([lesion, *[healthy] * 9])
    assert (among.threshold, among.validation_dice) == (alone.threshold, alone.validation_dice)
    assert among.validation_dice == pytest.approx(0.8)
    for cases in ([], [healthy]):
        with pytest.raises(CohortError, match=f"no validation case of {len(cases)} has lesion"):
            choose_threshold(cases)
