"""The cohort's numbers: groups, the tail, intervals over patients, and slices told apart."""

from itertools import product
from statistics import fmean, median

import numpy as np
import pytest

from components.evaluate.cohort import Group, groups, mean_interval
from components.evaluate.detection import slice_auc
from tests.evaluate.made_up_scores import scored


def test_a_group_by_hand():
    dices = [0.1, 0.3, *[0.8] * 9]
    group = Group.of("all", [scored(dice, f"case_{index}") for index, dice in enumerate(dices)])
    assert (group.cases, group.patients) == (11, 11)
    assert group.mean == pytest.approx(fmean(dices))
    assert group.median == median(dices)
    assert group.worst_decile == pytest.approx(0.2)  # of eleven cases the worst two


def test_the_worst_tenth_of_few_cases_is_the_worst_case():
    assert Group.of("all", [scored(0.4, "a"), scored(0.6, "b")]).worst_decile == 0.4


def test_the_groups_are_all_easy_source_intensity_and_thirds():
    scores = [
        scored(0.1, "hard", site="b", lesion_ml=0.1),
        scored(0.5, "x", site="a", lesion_ml=1.0),
        scored(0.6, "y", site="a", intensity="windowed", lesion_ml=2.0),
        scored(0.8, "z", site="b", lesion_ml=30.0),
    ]
    found = {group.name: group for group in groups(scores, hard_cases=["hard"])}
    assert list(found) == [
        "all test cases",
        "without 1 named as hard",
        "site a",
        "site b",
        "intensity hu",
        "intensity windowed",
        "least lesion (0.1 to 1 mL)",
        "middling lesion (2 to 2 mL)",
        "most lesion (30 to 30 mL)",
    ]
    assert found["all test cases"].mean == pytest.approx(0.5)
    assert found["without 1 named as hard"].mean == pytest.approx(fmean([0.5, 0.6, 0.8]))
    assert found["site b"].mean == pytest.approx(0.45)
    assert found["least lesion (0.1 to 1 mL)"].cases == 2


def test_no_case_is_no_group():
    assert groups([]) == []


def test_a_hard_case_that_is_not_among_the_test_cases_changes_nothing():
    assert groups([scored(0.5)], hard_cases=["elsewhere"])[0].name == "all test cases"
    assert not any("hard" in group.name for group in groups([scored(0.5)], hard_cases=["elsewhere"]))


def test_the_interval_is_near_that_of_all_possible_draws():
    values = [0.2, 0.5, 0.9]
    means = sorted(fmean(draw) for draw in product(values, repeat=3))
    found = mean_interval(["a", "b", "c"], values)
    assert found.low == pytest.approx(np.quantile(means, 0.025), abs=0.11)
    assert found.high == pytest.approx(np.quantile(means, 0.975), abs=0.11)


def test_the_interval_of_many_patients_is_that_of_the_normal_distribution():
    values = np.random.default_rng(0).uniform(0, 1, 400)
    found = mean_interval([str(index) for index in range(400)], list(values))
    spread = 1.96 * values.std() / 400**0.5
    assert found.low == pytest.approx(values.mean() - spread, abs=0.004)
    assert found.high == pytest.approx(values.mean() + spread, abs=0.004)


def test_scans_of_one_patient_are_drawn_together():
    # Ten scans of one patient are one finding: the interval reaches from one patient's mean to the other's.
    patients = ["one"] * 10 + ["other"] * 10
    found = mean_interval(patients, [0.2] * 10 + [0.8] * 10)
    assert (found.low, found.high) == (pytest.approx(0.2), pytest.approx(0.8))


def test_the_interval_is_the_same_every_time_and_in_any_order():
    first = mean_interval(["a", "b", "c"], [0.1, 0.5, 0.7])
    assert first == mean_interval(["a", "b", "c"], [0.1, 0.5, 0.7])
    assert first == mean_interval(["c", "a", "b"], [0.7, 0.1, 0.5])


@pytest.mark.parametrize("patients", [[], ["one"], ["one", "one"]])
def test_fewer_than_two_patients_have_no_interval(patients):
    assert mean_interval(patients, [0.5] * len(patients)) is None


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_has_no_interval(broken):
    assert mean_interval(["one", "other"], [0.5, broken]) is None


@pytest.mark.parametrize("seed", range(10))
def test_the_area_is_the_share_of_pairs_in_the_right_order(seed):
    draw = np.random.default_rng(seed)
    has_lesion = draw.random(30) < 0.4
    has_lesion[:2] = True, False
    highest = np.round(draw.random(30) + 0.3 * has_lesion, 1)
    pairs = [(a > b) + (a == b) / 2 for a in highest[has_lesion] for b in highest[~has_lesion]]
    assert slice_auc(has_lesion, highest) == pytest.approx(fmean(pairs))


def test_slices_of_one_kind_cannot_be_told_apart():
    assert slice_auc(np.ones(3, bool), np.arange(3.0)) is None
    assert slice_auc(np.zeros(3, bool), np.arange(3.0)) is None
