"""Overlap measures: values by hand, the empty-mask policy, and laws."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from surface_distance.metrics import compute_dice_coefficient

from components.ct.metrics import Confusion, confusion, dice

OVERLAPS = ("dice", "iou", "sensitivity", "precision")


same_shape_pairs = st.tuples(*[st.integers(1, 4)] * 3).flatmap(
    lambda shape: st.tuples(hnp.arrays(bool, shape), hnp.arrays(bool, shape))
)


def test_measures_match_values_by_hand():
    # Of 12 voxels, 3 of 4 lesion voxels are found, and 2 of 5 predicted ones are false.
    truth = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    prediction = np.array([0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    counts = confusion(truth, prediction)
    assert counts == Confusion(true_positive=3, false_positive=2, false_negative=1, true_negative=6)
    assert counts.dice == pytest.approx(6 / 9)
    assert counts.iou == pytest.approx(3 / 6)
    assert counts.sensitivity == pytest.approx(3 / 4)
    assert counts.precision == pytest.approx(3 / 5)
    assert counts.specificity == pytest.approx(6 / 8)
    assert counts.accuracy == pytest.approx(9 / 12)


@pytest.mark.parametrize("measure", OVERLAPS)
@pytest.mark.parametrize(
    ("truth", "prediction", "expected"),
    [([0, 0], [0, 0], 1.0), ([1, 0], [0, 0], 0.0), ([0, 0], [0, 1], 0.0), ([1, 1], [1, 1], 1.0), ([1, 0], [0, 1], 0.0)],
    ids=["both empty", "prediction empty", "truth empty", "both full", "apart"],
)
def test_the_empty_mask_policy(measure, truth, prediction, expected):
    assert getattr(confusion(np.array(truth), np.array(prediction)), measure) == expected


def test_specificity_is_one_without_background():
    assert confusion(np.ones(3), np.ones(3)).specificity == 1.0
    assert confusion(np.zeros(3), np.ones(3)).specificity == 0.0


def test_an_empty_prediction_has_high_accuracy_and_zero_dice():
    truth = np.zeros(1000, bool)
    truth[:9] = True  # the share of infected voxels in the 20-case data set
    empty = confusion(truth, np.zeros(1000, bool))
    assert empty.accuracy == 0.991
    assert empty.dice == 0.0


def test_masks_of_different_shapes_are_not_compared():
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(3, 2\)"):
        confusion(np.zeros((2, 3)), np.zeros((3, 2)))


def test_every_nonzero_voxel_is_lesion():
    assert dice(np.array([0, 255, 3]), np.array([0, 1, 1])) == 1.0


@given(same_shape_pairs)
def test_the_four_counts_match_numpy_and_every_measure_is_between_0_and_1(pair):
    truth, prediction = pair
    counts = confusion(truth, prediction)
    assert counts.true_positive == (truth & prediction).sum()
    assert counts.false_positive == (~truth & prediction).sum()
    assert counts.false_negative == (truth & ~prediction).sum()
    assert counts.true_negative == (~truth & ~prediction).sum()
    assert counts.total == truth.size
    assert all(0 <= getattr(counts, measure) <= 1 for measure in (*OVERLAPS, "specificity", "accuracy"))


@given(same_shape_pairs)
def test_dice_is_symmetric_reflexive_and_follows_from_iou(pair):
    forward, backward = confusion(*pair), confusion(*reversed(pair))
    assert forward.dice == backward.dice
    assert dice(pair[0], pair[0]) == 1.0
    assert forward.dice == pytest.approx(2 * forward.iou / (1 + forward.iou))


@given(same_shape_pairs)
def test_dice_matches_the_surface_distance_package(pair):
    # For two empty masks the package fails: it uses np.NaN, which NumPy 2 removed.
    assume(pair[0].any() or pair[1].any())
    assert confusion(*pair).dice == pytest.approx(compute_dice_coefficient(*pair))
