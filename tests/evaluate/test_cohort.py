"""Statistics over test cases: groups, the worst decile, intervals over patients, and the slice AUC."""

import tracemalloc
from itertools import product
from statistics import fmean, median

import numpy as np
import pytest

from components.evaluate.cohort import Group, group_scores, mean_interval, slice_auc
from tests.evaluate.synthetic_scores import case_score


def test_a_group_matches_hand_computed_statistics():
    dices = [0.1, 0.3, *[0.8] * 9]
    group = Group.from_scores("all", [case_score(dice, f"case_{index}") for index, dice in enumerate(dices)])
    assert (group.cases, group.patients) == (11, 11)
    assert group.mean == pytest.approx(fmean(dices))
    assert group.median == median(dices)
    assert group.worst_decile == pytest.approx(0.2)  # of eleven cases the worst two


def test_the_worst_decile_of_few_cases_is_the_worst_case():
    assert Group.from_scores("all", [case_score(0.4, "a"), case_score(0.6, "b")]).worst_decile == 0.4


def test_the_groups_are_all_easy_sites_intensities_and_thirds():
    scores = [
        case_score(0.1, "hard", site="b", lesion_ml=0.1),
        case_score(0.5, "x", site="a", lesion_ml=1.0),
        case_score(0.6, "y", site="a", intensity="windowed", lesion_ml=2.0),
        case_score(0.8, "z", site="b", lesion_ml=30.0),
        case_score(1.0, "healthy", site="b", lesion_ml=0.0),
        case_score(1.0, "other", site="c", lesion_ml=0.0),
    ]
    by_name = {group.name: group for group in group_scores(scores, hard_cases=["hard"])}
    assert list(by_name) == [
        "all test cases with lesion",
        "without 1 hard case",
        "site a",
        "site b",
        "intensity hu",
        "intensity windowed",
        "least lesion (0.1 to 1 mL)",
        "middle lesion (2 to 2 mL)",
        "most lesion (30 to 30 mL)",
    ]
    assert by_name["all test cases with lesion"].mean == pytest.approx(0.5)
    assert by_name["without 1 hard case"].mean == pytest.approx(fmean([0.5, 0.6, 0.8]))
    assert by_name["site b"].mean == pytest.approx(0.45)
    assert by_name["least lesion (0.1 to 1 mL)"].cases == 2


def test_a_cohort_without_lesion_has_no_groups():
    assert group_scores([]) == group_scores([case_score(1.0, lesion_ml=0.0)]) == []


def test_a_hard_case_outside_the_test_cases_changes_nothing():
    names = [group.name for group in group_scores([case_score(0.5)], hard_cases=["elsewhere"])]
    assert names[0] == "all test cases with lesion"
    assert not any("hard" in name for name in names)


def test_the_interval_approximates_that_of_all_possible_draws():
    values = [0.2, 0.5, 0.9]
    means = sorted(fmean(draw) for draw in product(values, repeat=3))
    interval = mean_interval(["a", "b", "c"], values)
    assert interval.low == pytest.approx(np.quantile(means, 0.025), abs=0.11)
    assert interval.high == pytest.approx(np.quantile(means, 0.975), abs=0.11)


def test_the_interval_of_many_patients_approaches_the_normal_interval():
    values = np.random.default_rng(0).uniform(0, 1, 400)
    interval = mean_interval([str(index) for index in range(400)], list(values))
    spread = 1.96 * values.std() / 400**0.5
    assert interval.low == pytest.approx(values.mean() - spread, abs=0.004)
    assert interval.high == pytest.approx(values.mean() + spread, abs=0.004)


def test_scans_of_one_patient_are_drawn_together():
    # The interval reaches from one patient's mean to the other's.
    patients = ["one"] * 10 + ["other"] * 10
    interval = mean_interval(patients, [0.2] * 10 + [0.8] * 10)
    assert (interval.low, interval.high) == (pytest.approx(0.2), pytest.approx(0.8))


def test_the_interval_is_reproducible_and_independent_of_the_order():
    first = mean_interval(["a", "b", "c"], [0.1, 0.5, 0.7])
    assert first == mean_interval(["a", "b", "c"], [0.1, 0.5, 0.7])
    assert first == mean_interval(["c", "a", "b"], [0.7, 0.1, 0.5])


def test_the_interval_of_many_patients_needs_little_memory_and_has_the_numbers_of_one_draw():
    count = 10_000
    values = np.random.default_rng(0).uniform(0, 1, count)
    tracemalloc.start()
    interval = mean_interval([f"{index:05}" for index in range(count)], list(values))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6
    draws = np.random.default_rng(0).integers(count, size=(2000, count))
    low, high = np.quantile(values[draws].mean(axis=1), [0.025, 0.975])
    assert (interval.low, interval.high) == (pytest.approx(low, abs=1e-12), pytest.approx(high, abs=1e-12))


@pytest.mark.parametrize("patients", [[], ["one"], ["one", "one"]])
def test_fewer_than_two_patients_have_no_interval(patients):
    assert mean_interval(patients, [0.5] * len(patients)) is None


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_values_that_are_not_finite_have_no_interval(broken):
    assert mean_interval(["one", "other"], [0.5, broken]) is None


@pytest.mark.parametrize("seed", range(10))
def test_the_slice_auc_is_the_fraction_of_correctly_ordered_pairs(seed):
    draw = np.random.default_rng(seed)
    has_lesion = draw.random(30) < 0.4
    has_lesion[:2] = True, False
    peak = np.round(draw.random(30) + 0.3 * has_lesion, 1)
    pairs = [(a > b) + (a == b) / 2 for a in peak[has_lesion] for b in peak[~has_lesion]]
    assert slice_auc(has_lesion, peak) == pytest.approx(fmean(pairs))


def test_slices_of_one_kind_have_no_auc():
    assert slice_auc(np.ones(3, bool), np.arange(3.0)) is None
    assert slice_auc(np.zeros(3, bool), np.arange(3.0)) is None
