"""The threshold: exact counts at every candidate, and the choice among them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from components.ct.errors import CohortError
from components.ct.metrics import confusion
from components.evaluate.threshold import THRESHOLDS, LevelCounts, choose_threshold

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


def test_the_best_mean_dice_over_cases_wins_not_the_pooled_voxels():
    # A large case that is right at 0.25 alone, and two small ones that are right at 0.75 alone.
    large = counted([0.3] * 100 + [0.1] * 100, [True] * 100 + [False] * 100)
    small = counted([0.8, 0.6, 0.6, 0.6], [True, False, False, False])
    choice = choose_threshold([large, small, small])
    assert 0.6 < choice.threshold <= 0.8
    assert choice.validation_dice == pytest.approx(2 / 3)
    pooled_best = choose_threshold([large])
    assert 0.1 < pooled_best.threshold <= 0.3


def test_of_equally_good_thresholds_the_one_closest_to_a_half_is_taken():
    assert choose_threshold([counted([0.9, 0.1], [True, False])]).threshold == 0.5
    above = choose_threshold([counted([0.9, 0.7], [True, False])])
    assert above.threshold == 180 / 256  # the first above 0.7


def test_cases_without_lesion_speak_for_a_higher_threshold():
    lesion, healthy = counted([0.9, 0.6], [True, True]), counted([0.5, 0.1], [False, False])
    assert choose_threshold([lesion]).threshold == 0.5
    assert choose_threshold([lesion, healthy]).threshold > 0.5


def test_without_validation_cases_nothing_is_chosen():
    with pytest.raises(CohortError, match="validation split is empty"):
        choose_threshold([])
