"""The gate's rules: each one alone can refuse a model, at its very limit and not before."""

import math

import pytest

from components.evaluate.champion import Champion, Comparison
from components.evaluate.rules import TRIVIAL_ML, Limits, gate_rules
from components.evaluate.verdict import judge
from components.runtime.errors import InputError
from tests.evaluate.made_up_scores import scored

DIGEST = "a" * 64
STRICT = Limits(
    min_dice=0.7,
    min_dice_ci=0.5,
    min_case_dice=0.4,
    min_site_dice=0.6,
    max_false_positive_ml=2.0,
    max_regression=0.05,
)
GOOD = (
    scored(0.8, "a_1", site="a", champion_dice=0.8),
    scored(0.9, "a_2", site="a", champion_dice=0.8),
    scored(0.7, "b_1", site="b", champion_dice=0.8),
    scored(0.8, "b_2", site="b", champion_dice=0.8),
    scored(1.0, "healthy", site="b", lesion_ml=0.0, predicted_ml=0.0, champion_dice=1.0),
)


def refusals(scores, limits=STRICT, champion=True) -> list[str]:
    """The names of the rules that do not hold."""
    served = Champion("version 3", lambda slices: slices, 128, 0.5, frozenset({"b" * 64})) if champion else None
    comparison = Comparison.of(served, list(scores)) if served else None
    asked = gate_rules(scores, limits, comparison)
    verdict = judge(asked.rules, scores, DIGEST, 0.5, asked.not_applied)
    broken = [rule.name for rule in verdict.rules if not rule.passed]
    assert verdict.passed == (not broken)
    return broken


def changed(scores, **rows):
    return [rows.get(row.case_id, row) for row in scores]


def test_a_model_that_meets_every_rule_passes_all_seven():
    asked = gate_rules(GOOD, STRICT, Comparison("version 3", 0.0))
    assert [rule.name for rule in asked.rules] == [
        "mean_dice",
        "mean_dice_low",
        "worst_case_dice",
        "mean_dice of a",
        "mean_dice of b",
        "false_positive_ml",
        "champion",
    ]
    assert refusals(GOOD) == []


def test_the_mean_alone_can_refuse():
    scores = [scored(0.69, f"case_{index}", champion_dice=0.69) for index in range(5)]
    assert refusals(scores) == ["mean_dice"]


def test_the_lower_end_of_the_interval_alone_can_refuse():
    # Six good cases and two bad ones: a mean of 0.8, but a lower end near 0.62.
    scores = [scored(0.93, f"case_{index}", champion_dice=0.8) for index in range(6)]
    scores += [scored(0.41, f"bad_{index}", champion_dice=0.4) for index in range(2)]
    limits = Limits(min_dice=0.7, min_dice_ci=0.7, min_case_dice=0.4)
    assert refusals(scores, limits) == ["mean_dice_low"]
    assert refusals(scores, Limits(min_dice=0.7, min_dice_ci=0.5, min_case_dice=0.4)) == []


def test_the_interval_of_one_patient_is_none_and_refuses():
    scores = [scored(0.9, f"scan_{index}", patient_id="one") for index in range(3)]
    assert refusals(scores, Limits(min_dice_ci=0.1), champion=False) == ["mean_dice_low"]


def test_the_worst_case_alone_can_refuse_at_its_very_limit():
    def with_worst(dice):
        return changed(GOOD, b_2=scored(dice, "b_2", site="b", champion_dice=dice))

    limits = Limits(min_dice=0.5, min_case_dice=0.4)
    assert refusals(with_worst(0.4), limits) == []
    assert refusals(with_worst(math.nextafter(0.4, 0)), limits) == ["worst_case_dice"]


@pytest.mark.parametrize(
    ("changes", "hard"),
    [
        ({"lesion_ml": math.nextafter(TRIVIAL_ML, 0)}, ()),
        ({"lesion_ml": 0.0, "predicted_ml": 1.0}, ()),
        ({}, ("tiny",)),
    ],
    ids=["too little lesion", "no lesion", "named as hard"],
)
def test_a_trivial_case_is_not_the_worst(changes, hard):
    scores = [*GOOD, scored(0.1, "tiny", site="a", champion_dice=0.1, **changes)]
    assert refusals(scores, Limits(min_case_dice=0.4, hard_cases=hard)) == []
    assert refusals(
        [*GOOD, scored(0.1, "tiny", champion_dice=0.1, lesion_ml=TRIVIAL_ML)], Limits(min_case_dice=0.4)
    ) == ["worst_case_dice"]


def test_without_any_case_that_counts_the_worst_case_refuses():
    scores = [scored(0.9, lesion_ml=0.1)]
    assert refusals(scores, Limits(min_case_dice=0.4), champion=False) == ["worst_case_dice"]


def test_one_source_alone_can_refuse_although_the_mean_is_good():
    scores = [scored(0.95, f"a_{index}", site="a", champion_dice=0.9) for index in range(8)]
    scores += [scored(0.5, "b_1", site="b", champion_dice=0.5)]
    assert refusals(scores, Limits(min_dice=0.7, min_site_dice=0.6)) == ["mean_dice of b"]
    assert refusals(scores, Limits(min_dice=0.7, min_site_dice=0.5)) == []


def test_volume_marked_in_a_healthy_scan_alone_can_refuse_at_its_very_limit():
    def with_marked(volume_ml):
        return changed(
            GOOD, healthy=scored(0.9, "healthy", site="b", lesion_ml=0.0, predicted_ml=volume_ml, champion_dice=0.9)
        )

    assert refusals(with_marked(2.0)) == []
    assert refusals(with_marked(math.nextafter(2.0, 3))) == ["false_positive_ml"]


def test_the_largest_of_all_healthy_scans_counts():
    healthy = [scored(1.0, f"healthy_{volume}", lesion_ml=0.0, predicted_ml=volume) for volume in (0.0, 3.0, 1.0)]
    assert refusals(healthy, Limits(max_false_positive_ml=2.0), champion=False) == ["false_positive_ml"]


def test_without_a_healthy_scan_the_rule_is_left_out_and_said_so():
    asked = gate_rules([scored(0.9)], Limits())
    assert [rule.name for rule in asked.rules] == ["mean_dice"]
    assert any("no test case is without lesion" in line for line in asked.not_applied)


def test_a_fall_below_the_served_version_alone_can_refuse_at_its_very_limit():
    def against(served):
        return [scored(0.75, f"case_{index}", champion_dice=served) for index in range(4)]

    limits = Limits(max_regression=0.125)
    assert refusals(against(0.875), limits) == []
    assert refusals(against(math.nextafter(0.875, 1)), limits) == ["champion"]
    assert refusals(against(0.5), limits) == []


def test_the_change_is_paired_by_case():
    scores = [scored(0.9, "x", champion_dice=0.5), scored(0.5, "y", champion_dice=0.8)]
    served = Champion("version 3", lambda slices: slices, 128, 0.5, frozenset({"b" * 64}))
    comparison = Comparison.of(served, scores)
    assert comparison.mean_change == pytest.approx((0.4 - 0.3) / 2)
    assert comparison.interval.low == pytest.approx(-0.3)
    assert comparison.interval.high == pytest.approx(0.4)
    assert comparison.unknown_cases == 0


def test_a_served_version_that_could_not_be_scored_refuses():
    assert refusals([scored(0.9), scored(0.9, champion_dice=0.5)], Limits()) == ["champion"]
    assert refusals([scored(0.9)], Limits()) == ["champion"]


def test_a_first_model_has_no_champion_and_that_is_said():
    asked = gate_rules([scored(0.9)], Limits())
    assert "no version is served yet, so there is none to compare with" in asked.not_applied


def test_cases_that_the_served_version_may_have_been_trained_on_are_told():
    served = Champion("version 3", lambda slices: slices, 128, 0.5, frozenset())
    scores = [scored(0.9, champion_dice=0.9)]
    asked = gate_rules(scores, Limits(), Comparison.of(served, scores))
    assert any("1 test case may have been among those version 3 was trained on" in line for line in asked.not_applied)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_refuses_wherever_it_stands(broken):
    for case_id in ("a_1", "b_2"):
        row = scored(broken, case_id, site=case_id[0], champion_dice=0.8)
        assert {"mean_dice", "champion", f"mean_dice of {case_id[0]}"} <= set(refusals(changed(GOOD, **{case_id: row})))
    assert "worst_case_dice" in refusals(changed(GOOD, a_2=scored(math.nan, "a_2", site="a", champion_dice=0.8)))
    healthy = scored(1.0, "healthy", site="b", lesion_ml=0.0, predicted_ml=broken, champion_dice=1.0)
    assert refusals(changed(GOOD, healthy=healthy)) == ["false_positive_ml"]
    assert "champion" in refusals(changed(GOOD, a_1=scored(0.8, "a_1", site="a", champion_dice=broken)))


def test_an_empty_cohort_meets_no_rule_that_it_could_be_asked():
    asked = gate_rules([], STRICT, Comparison("version 3", None))
    assert [rule.name for rule in asked.rules] == ["mean_dice", "mean_dice_low", "worst_case_dice", "champion"]
    assert not any(rule.passed for rule in asked.rules)


def test_one_case_is_judged_like_many():
    assert refusals([scored(0.5)], Limits(0.5), champion=False) == []
    assert refusals([scored(math.nextafter(0.5, 0))], Limits(0.5), champion=False) == ["mean_dice"]


@pytest.mark.parametrize("name", ["min_dice", "min_dice_ci", "min_case_dice", "min_site_dice", "max_regression"])
@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf])
def test_a_limit_that_no_dice_can_be_held_against_is_refused(name, value):
    with pytest.raises(InputError, match=name):
        Limits(**{name: value})


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_a_limit_that_no_volume_can_be_held_against_is_refused(value):
    with pytest.raises(InputError, match="max_false_positive_ml"):
        Limits(max_false_positive_ml=value)
