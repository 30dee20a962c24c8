"""Levels of probability: exact counts at every threshold, ROC and calibration against definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from components.ct.metrics import confusion
from components.evaluate.levels import LEVELS, THRESHOLDS, LevelCounts

SHAPE = (2, 3, 4)


def counted(probability, truth) -> LevelCounts:
    counts = LevelCounts()
    counts.add(np.asarray(probability, np.float32).reshape(1, 1, -1), np.asarray(truth, bool).reshape(1, 1, -1))
    return counts


@given(
    hnp.arrays(np.float32, SHAPE, elements=st.floats(0, 1, width=32)),
    hnp.arrays(bool, SHAPE),
    st.sampled_from(list(THRESHOLDS)),
)
def test_counts_give_the_very_confusion_of_the_thresholded_mask(probability, truth, threshold):
    counts = LevelCounts()
    counts.add(probability, truth)
    assert counts.confusion(threshold) == confusion(truth, probability >= threshold)


@pytest.mark.parametrize("threshold", list(THRESHOLDS[::15]))
def test_a_probability_of_the_threshold_itself_counts_as_lesion(threshold):
    just_below = np.nextafter(np.float32(threshold), np.float32(0))
    assert counted([threshold, just_below], [True, True]).confusion(threshold).true_positive == 1


def test_interpolation_that_passes_one_is_still_the_highest_level():
    assert counted([1.0000001, 1.0, -1e-8], [True, True, False]).confusion(255 / 256).dice == 1.0


def test_parts_of_a_case_add_up():
    rng = np.random.default_rng(1)
    probability, truth = rng.random((6, 5, 4), np.float32), rng.random((6, 5, 4)) < 0.3
    whole, parts = LevelCounts(), LevelCounts()
    whole.add(probability, truth)
    parts.add(probability[:4], truth[:4])
    parts.add(probability[4:], truth[4:])
    np.testing.assert_array_equal(whole.lesion, parts.lesion)
    np.testing.assert_array_equal(whole.background, parts.background)
    assert whole.lesion.sum() + whole.background.sum() == 120


def test_cases_pool_to_what_they_are_together():
    rng = np.random.default_rng(2)
    probability, truth = rng.random((4, 3, 3), np.float32), rng.random((4, 3, 3)) < 0.5
    whole, first, second = LevelCounts(), LevelCounts(), LevelCounts()
    whole.add(probability, truth)
    first.add(probability[:1], truth[:1])
    second.add(probability[1:], truth[1:])
    pool = LevelCounts.pooled([first, second])
    np.testing.assert_array_equal(pool.lesion, whole.lesion)
    np.testing.assert_array_equal(pool.background, whole.background)
    np.testing.assert_allclose(pool.mass, whole.mass)
    assert first.lesion.sum() < whole.lesion.sum()


def test_every_level_holds_its_voxels_and_their_sum():
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


def test_the_roc_curve_is_that_of_the_definition_at_every_threshold():
    rng = np.random.default_rng(4)
    truth = rng.random(500) < 0.3
    probability = np.clip(0.4 * truth + 0.6 * rng.random(500), 0, 1).astype(np.float32)
    roc = counted(probability, truth).roc()
    for threshold, found, raised in zip(roc.threshold, roc.true_positive_rate, roc.false_positive_rate, strict=True):
        marked = probability >= threshold if threshold < 1 else np.zeros(500, bool)
        assert found == pytest.approx((marked & truth).sum() / truth.sum())
        assert raised == pytest.approx((marked & ~truth).sum() / (~truth).sum())
    # The chance that a lesion voxel is given more than a background one, pair by pair, up to the levels' width.
    pairs = probability[truth][:, None] - probability[~truth]
    assert roc.auc == pytest.approx((pairs > 0).mean() + (pairs == 0).mean() / 2, abs=0.005)


def test_a_perfect_answer_has_an_area_of_one_and_a_reversed_one_of_nought():
    assert counted([0.9, 0.1], [True, False]).roc().auc == 1.0
    assert counted([0.1, 0.9], [True, False]).roc().auc == 0.0


@pytest.mark.parametrize("truth", [[True, True], [False, False]])
def test_without_lesion_or_without_background_there_is_no_roc_curve(truth):
    assert counted([0.2, 0.9], truth).roc() is None


def test_calibration_worked_out_by_hand():
    # Two bins: 0.03125 twice with one lesion, 0.75 twice with both lesion.
    reliability = counted([1 / 32, 1 / 32, 0.75, 0.75], [True, False, True, True]).reliability()
    np.testing.assert_allclose(reliability.probability, [1 / 32, 0.75], atol=1 / 8192)
    np.testing.assert_allclose(reliability.lesion_share, [0.5, 1.0])
    np.testing.assert_array_equal(reliability.voxels, [2, 2])
    assert reliability.expected_calibration_error == pytest.approx((0.5 - 1 / 32) / 2 + 0.25 / 2, abs=1 / 8192)


def test_the_calibration_error_is_that_of_the_definition_on_random_voxels():
    rng = np.random.default_rng(5)
    probability = rng.random(3000).astype(np.float32) ** 4
    truth = rng.random(3000) < probability * 0.7
    expected = 0.0
    for low in np.arange(16) / 16:
        here = (probability >= low) & (probability < low + 1 / 16)
        if here.any():
            expected += here.mean() * abs(probability[here].mean(dtype=np.float64) - truth[here].mean())
    error = counted(probability, truth).reliability().expected_calibration_error
    assert error == pytest.approx(expected, abs=1 / 8192)
    assert error > 0.01


def test_no_voxel_at_all_is_no_calibration_error():
    assert LevelCounts().reliability().expected_calibration_error == 0.0
