"""Measures of overlap: hand-made values, the empty-mask policy at its corners, and laws."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from surface_distance.metrics import compute_dice_coefficient

from components.ct.metrics import Confusion, confusion, dice, volume_ml

OVERLAPS = ("dice", "iou", "sensitivity", "precision")
masks = hnp.arrays(bool, st.tuples(*[st.integers(1, 4)] * 3))


def pair_of(shape: tuple[int, ...]) -> st.SearchStrategy:
    return st.tuples(hnp.arrays(bool, shape), hnp.arrays(bool, shape))


same_shape_pairs = st.tuples(*[st.integers(1, 4)] * 3).flatmap(pair_of)


def test_hand_made_masks_give_the_values_worked_out_by_hand():
    # 3 of the truth's 4 voxels are found, and 2 of the 5 predicted lie beside it, in 12 voxels.
    truth = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    prediction = np.array([0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    found = confusion(truth, prediction)
    assert found == Confusion(true_positive=3, false_positive=2, false_negative=1, true_negative=6)
    assert found.dice == pytest.approx(6 / 9)
    assert found.iou == pytest.approx(3 / 6)
    assert found.sensitivity == pytest.approx(3 / 4)
    assert found.precision == pytest.approx(3 / 5)
    assert found.specificity == pytest.approx(6 / 8)
    assert found.accuracy == pytest.approx(9 / 12)


@pytest.mark.parametrize("measure", OVERLAPS)
@pytest.mark.parametrize(
    ("truth", "prediction", "expected"),
    [([0, 0], [0, 0], 1.0), ([1, 0], [0, 0], 0.0), ([0, 0], [0, 1], 0.0), ([1, 1], [1, 1], 1.0), ([1, 0], [0, 1], 0.0)],
    ids=["both empty", "prediction empty", "truth empty", "both full", "apart"],
)
def test_the_empty_mask_policy_holds_at_its_corners(measure, truth, prediction, expected):
    assert getattr(confusion(np.array(truth), np.array(prediction)), measure) == expected


def test_specificity_is_one_where_there_is_no_background():
    assert confusion(np.ones(3), np.ones(3)).specificity == 1.0
    assert confusion(np.zeros(3), np.ones(3)).specificity == 0.0


def test_a_model_that_marks_nothing_has_high_accuracy_and_no_dice():
    truth = np.zeros(1000, bool)
    truth[:9] = True  # the share of infected voxels in the 20-case data set
    nothing = confusion(truth, np.zeros(1000, bool))
    assert nothing.accuracy == 0.991
    assert nothing.dice == 0.0


def test_masks_of_different_shapes_are_not_compared():
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(3, 2\)"):
        confusion(np.zeros((2, 3)), np.zeros((3, 2)))


def test_any_label_but_0_is_lesion():
    assert dice(np.array([0, 255, 3]), np.array([0, 1, 1])) == 1.0


def test_volume_counts_voxels_and_not_labels():
    assert volume_ml(np.array([0, 255, 3, 1]), (0.5, 2.0, 10.0)) == pytest.approx(0.03)


@given(same_shape_pairs)
def test_every_measure_is_finite_and_between_0_and_1(pair):
    found = confusion(*pair)
    for measure in (*OVERLAPS, "specificity", "accuracy"):
        value = getattr(found, measure)
        assert math.isfinite(value)
        assert 0 <= value <= 1


@given(same_shape_pairs)
def test_the_four_counts_are_those_of_numpy_and_add_up(pair):
    truth, prediction = pair
    found = confusion(truth, prediction)
    assert found.true_positive == (truth & prediction).sum()
    assert found.false_positive == (~truth & prediction).sum()
    assert found.false_negative == (truth & ~prediction).sum()
    assert found.true_negative == (~truth & ~prediction).sum()
    assert found.total == truth.size


@given(same_shape_pairs)
def test_dice_is_symmetric_and_follows_from_iou(pair):
    forth, back = confusion(*pair), confusion(*reversed(pair))
    assert forth.dice == back.dice
    assert forth.dice == pytest.approx(2 * forth.iou / (1 + forth.iou))


@given(masks)
def test_a_mask_agrees_with_itself(mask):
    assert dice(mask, mask) == 1.0


@given(same_shape_pairs)
def test_dice_is_that_of_the_surface_distance_package_wherever_there_is_lesion(pair):
    # It has no value for two empty masks: there it asks for the np.NaN that NumPy 2 took away.
    assume(pair[0].any() or pair[1].any())
    assert confusion(*pair).dice == pytest.approx(compute_dice_coefficient(*pair))
