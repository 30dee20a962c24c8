"""The threshold: the choice among the candidates."""

import numpy as np
import pytest

from components.evaluate.levels import LevelCounts
from components.evaluate.threshold import choose_threshold
from components.runtime.errors import CohortError


def counted(probability, truth) -> LevelCounts:
    counts = LevelCounts()
    counts.add(np.asarray(probability, np.float32).reshape(1, 1, -1), np.asarray(truth, bool).reshape(1, 1, -1))
    return counts


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
