"""The gate's rules: each one alone can refuse a model, exactly at its limit."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.evaluate.cohort import Comparison
from components.evaluate.limits import GateLimits
from components.evaluate.rules import TRIVIAL_ML, apply_rules
from components.evaluate.verdict import judge
from components.runtime.errors import InputError
from tests.evaluate.synthetic_scores import case_score

STRICT = GateLimits(
    min_dice=0.7, min_dice_ci=0.5, min_case_dice=0.4, min_site_dice=0.6, max_false_positive_ml=2.0, max_regression=0.05
)
GOOD = (
    case_score(0.8, "a_1", site="a", champion_dice=0.8),
    case_score(0.9, "a_2", site="a", champion_dice=0.8),
    case_score(0.7, "b_1", site="b", champion_dice=0.8),
    case_score(0.8, "b_2", site="b", champion_dice=0.8),
    case_score(1.0, "healthy", site="b", lesion_ml=0.0, predicted_ml=0.0, champion_dice=1.0),
)


def failed_rules(scores, limits=STRICT, champion=True) -> list[str]:
    comparison = Comparison.from_scores(scores, "version 3") if champion else None
    verdict = judge(scores, limits, comparison, model_sha256="a" * 64, threshold=0.5)
    failed = [rule.name for rule in verdict.rules if not rule.passed]
    assert verdict.passed == (not failed)
    return failed


def replaced(scores, **rows):
    return [rows.get(row.case_id, row) for row in scores]


def test_a_model_that_meets_all_seven_rules_passes():
    gate = apply_rules(GOOD, STRICT, Comparison("version 3", "cannot be loaded"))
    assert {rule.name: rule.what for rule in gate.rules} == {
        "mean_dice": "mean Dice over 4 test cases with lesion",
        "mean_dice_low": "lower end of the 95 % interval of the mean Dice over 4 patients with lesion",
        "worst_case_dice": "Dice of the worst case (b_1)",
        "mean_dice of a": "mean Dice of a over 2 test cases with lesion",
        "mean_dice of b": "mean Dice of b over 2 test cases with lesion",
        "false_positive_ml": "largest volume in mL predicted in 1 scan without lesion",
        "champion": "change of the mean Dice on the same cases against version 3, which cannot be loaded "
        "(restore its files, or move its folder out of the model base to compare with the version before it)",
    }
    assert failed_rules(GOOD) == []


def without_lesion(case_id: str, predicted_ml: float = 0.0, **changes):
    """The score of a case with an empty mask."""
    dice = float(predicted_ml == 0)
    changes = {"champion_dice": dice} | changes
    return case_score(dice, case_id, lesion_ml=0.0, predicted_ml=predicted_ml, lesions=0, **changes)


MISSED = case_score(0.0, "missed", site="b", lesion_ml=9.0, predicted_ml=0.0, champion_dice=0.0)


@pytest.mark.parametrize(
    ("scores", "failed", "test_dice"),
    [
        ([without_lesion("e")], ["mean_dice"], 0.0),
        ([without_lesion(f"e_{index}") for index in range(99)], ["mean_dice"], 0.0),
        ([without_lesion("e"), MISSED], ["mean_dice", "mean_dice of b"], 0.0),
        (
            [*(without_lesion(f"e_{index}", site="b") for index in range(99)), MISSED],
            ["mean_dice", "mean_dice of b"],
            0.0,
        ),
        ([case_score(1.0, "good", site="a"), without_lesion("e", site="b"), MISSED], ["mean_dice of b"], 0.5),
        ([case_score(0.9, "good"), without_lesion("e", predicted_ml=60.0)], ["false_positive_ml"], 0.9),
        ([case_score(0.9, "good"), without_lesion("e", predicted_ml=40.0)], [], 0.9),
    ],
    ids=["only empty", "99 empty", "empty and missed", "99 empty and missed", "site", "false positives", "good"],
)
def test_cases_without_lesion_are_judged_by_false_positives_and_support_no_dice(scores, failed, test_dice):
    limits = GateLimits(min_dice=0.5, min_site_dice=0.1)
    assert failed_rules(scores, limits, champion=False) == failed
    assert judge(scores, limits, model_sha256="a" * 64, threshold=0.5).test_dice == test_dice


def test_cases_without_lesion_change_no_interval_and_no_comparison():
    scores = [case_score(0.6, "a", champion_dice=0.9), case_score(0.8, "b", champion_dice=0.9)]
    padded = [*scores, *(without_lesion(f"e_{index}") for index in range(9))]
    limits, names = GateLimits(min_dice_ci=0.1), ("mean_dice", "mean_dice_low", "champion")
    gates = [apply_rules(rows, limits, Comparison.from_scores(rows, "version 3")) for rows in (scores, padded)]
    values = [[rule.value for rule in gate.rules if rule.name in names] for gate in gates]
    assert values[0] == values[1]
    assert values[0][2] == pytest.approx(-0.2)


def test_a_lesion_volume_of_nan_hides_no_case():
    scores = [case_score(0.9, "good"), case_score(0.0, "broken", lesion_ml=math.nan)]
    assert failed_rules(scores, GateLimits(min_dice=0.5), champion=False) == ["mean_dice", "lesion_ml of broken"]


@pytest.mark.parametrize("name", ["lesion_ml", "predicted_ml"])
@pytest.mark.parametrize("volume", [math.nan, math.inf, -math.inf, -1.0, -1e-12])
def test_a_volume_that_no_scan_has_refuses_a_good_model(name, volume):
    scores = [case_score(0.9, "good"), case_score(0.9, "broken", **{name: volume})]
    assert failed_rules(scores, GateLimits(min_dice=0.5), champion=False) == [f"{name} of broken"]


def test_a_site_without_lesion_is_a_remark():
    gate = apply_rules([case_score(0.9, site="a"), without_lesion("e", site="b")], GateLimits(min_site_dice=0.5))
    assert "no test scan of b has lesion, so its mean Dice was not judged" in gate.not_applied


def test_the_mean_alone_can_refuse():
    scores = [case_score(0.69, f"case_{index}", champion_dice=0.69) for index in range(5)]
    assert failed_rules(scores) == ["mean_dice"]


def test_the_lower_end_of_the_interval_alone_can_refuse():
    # Six good cases and two bad ones: a mean of 0.8 with a lower end near 0.62.
    scores = [case_score(0.93, f"case_{index}", champion_dice=0.8) for index in range(6)]
    scores += [case_score(0.41, f"bad_{index}", champion_dice=0.4) for index in range(2)]
    assert failed_rules(scores, GateLimits(min_dice=0.7, min_dice_ci=0.7, min_case_dice=0.4)) == ["mean_dice_low"]
    assert failed_rules(scores, GateLimits(min_dice=0.7, min_dice_ci=0.5, min_case_dice=0.4)) == []


def test_a_single_patient_has_no_interval_and_is_refused():
    scores = [case_score(0.9, f"scan_{index}", patient_id="one") for index in range(3)]
    assert failed_rules(scores, GateLimits(min_dice_ci=0.1), champion=False) == ["mean_dice_low"]


def test_the_worst_case_alone_can_refuse_just_below_its_limit():
    def with_worst(dice):
        return replaced(GOOD, b_2=case_score(dice, "b_2", site="b", champion_dice=dice))

    limits = GateLimits(min_dice=0.5, min_case_dice=0.4)
    assert failed_rules(with_worst(0.4), limits) == []
    assert failed_rules(with_worst(0.4 - 2e-9), limits) == ["worst_case_dice"]


@pytest.mark.parametrize(
    ("changes", "hard"),
    [
        ({"lesion_ml": math.nextafter(TRIVIAL_ML, 0)}, ()),
        ({"lesion_ml": 0.0, "predicted_ml": 1.0}, ()),
        ({}, ("tiny",)),
    ],
    ids=["small lesion", "no lesion", "hard case"],
)
def test_a_trivial_or_hard_case_is_not_the_worst_case(changes, hard):
    limits = GateLimits(min_case_dice=0.4, hard_cases=hard)
    tiny = case_score(0.1, "tiny", site="a", champion_dice=0.1, **changes)
    assert failed_rules([*GOOD, tiny], limits) == []
    judged = case_score(0.1, "judged", champion_dice=0.1, lesion_ml=TRIVIAL_ML)
    assert failed_rules([*GOOD, judged], limits) == ["worst_case_dice"]


def test_the_worst_case_rule_refuses_when_all_cases_are_trivial():
    scores = [case_score(0.9, lesion_ml=0.1)]
    assert failed_rules(scores, GateLimits(min_case_dice=0.4), champion=False) == ["worst_case_dice"]


def test_one_site_alone_can_refuse_despite_a_good_mean():
    scores = [case_score(0.95, f"a_{index}", site="a", champion_dice=0.9) for index in range(8)]
    scores += [case_score(0.5, "b_1", site="b", champion_dice=0.5)]
    assert failed_rules(scores, GateLimits(min_dice=0.7, min_site_dice=0.6)) == ["mean_dice of b"]
    assert failed_rules(scores, GateLimits(min_dice=0.7, min_site_dice=0.5)) == []


def test_false_positive_volume_in_a_healthy_scan_alone_can_refuse_just_above_its_limit():
    def with_predicted(volume_ml):
        healthy = case_score(0.9, "healthy", site="b", lesion_ml=0.0, predicted_ml=volume_ml, champion_dice=0.9)
        return replaced(GOOD, healthy=healthy)

    assert failed_rules(with_predicted(2.0)) == []
    assert failed_rules(with_predicted(2.0 + 2e-9)) == ["false_positive_ml"]
    assert failed_rules(with_predicted(0.0), GateLimits(max_false_positive_ml=0.0)) == []
    assert failed_rules(with_predicted(0.1), GateLimits(max_false_positive_ml=0.0)) == ["false_positive_ml"]


def test_the_largest_false_positive_volume_of_all_healthy_scans_counts():
    healthy = [case_score(1.0, f"healthy_{volume}", lesion_ml=0.0, predicted_ml=volume) for volume in (0.0, 3.0, 1.0)]
    scores = [case_score(0.9), *healthy]
    assert failed_rules(scores, GateLimits(max_false_positive_ml=2.0), champion=False) == ["false_positive_ml"]


def test_a_cohort_without_healthy_scans_skips_the_false_positive_rule_with_a_remark():
    gate = apply_rules([case_score(0.9)], GateLimits())
    assert [rule.name for rule in gate.rules] == ["mean_dice"]
    assert any("every test scan has lesion" in line for line in gate.not_applied)


def test_a_regression_against_the_served_version_alone_can_refuse_just_above_its_limit():
    def compared_with(served):
        return [case_score(0.75, f"case_{index}", champion_dice=served) for index in range(4)]

    limits = GateLimits(max_regression=0.125)
    assert failed_rules(compared_with(0.875), limits) == []
    assert failed_rules(compared_with(0.875 + 2e-9), limits) == ["champion"]
    assert failed_rules(compared_with(0.5), limits) == []


@pytest.mark.parametrize("regression", [0.01, 0.02, 0.03, 0.07, 0.1, 0.29])
@pytest.mark.parametrize("cases", [1, 3, 7])
@given(served=st.integers(30, 100))
def test_a_regression_equal_to_its_limit_passes_despite_the_rounding_of_differences(regression, cases, served):
    dice = (served - round(100 * regression)) / 100
    scores = [case_score(dice, f"case_{index}", champion_dice=served / 100) for index in range(cases)]
    comparison = Comparison.from_scores(scores, "version 3")
    limits = GateLimits(min_dice=0, max_regression=regression)
    rule = next(rule for rule in apply_rules(scores, limits, comparison).rules if rule.name == "champion")
    assert rule.margin == 0
    assert rule.reason.endswith(f" is {-regression:.4f}, which meets the limit of {-regression:g}")


def test_the_change_against_the_served_version_is_paired_by_case():
    scores = [case_score(0.9, "x", champion_dice=0.5), case_score(0.5, "y", champion_dice=0.8)]
    comparison = Comparison.from_scores(scores, "version 3")
    assert comparison.mean_change == pytest.approx((0.4 - 0.3) / 2)
    assert comparison.interval.low == pytest.approx(-0.3)
    assert comparison.interval.high == pytest.approx(0.4)
    assert comparison.unknown_cases == 0


def test_a_served_version_that_was_not_scored_on_every_case_refuses():
    assert failed_rules([case_score(0.9), case_score(0.9, champion_dice=0.5)], GateLimits()) == ["champion"]
    assert failed_rules([case_score(0.9)], GateLimits()) == ["champion"]


def test_a_first_model_skips_the_comparison_with_a_remark():
    gate = apply_rules([case_score(0.9)], GateLimits())
    assert "no version is served yet, so the model was not compared with one" in gate.not_applied


def test_a_remark_counts_the_cases_the_served_version_may_have_been_trained_on():
    scores = [case_score(0.9, champion_dice=0.9)]
    gate = apply_rules(scores, GateLimits(), Comparison.from_scores(scores, "version 3", unknown_cases=1))
    assert "version 3 may have been trained on 1 test case, which favors it in the comparison" in gate.not_applied


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_refuses_in_every_rule(broken):
    for case_id in ("a_1", "b_2"):
        row = case_score(broken, case_id, site=case_id[0], champion_dice=0.8)
        failed = set(failed_rules(replaced(GOOD, **{case_id: row})))
        assert {"mean_dice", "champion", f"mean_dice of {case_id[0]}"} <= failed
    nan_case = case_score(math.nan, "a_2", site="a", champion_dice=0.8)
    assert "worst_case_dice" in failed_rules(replaced(GOOD, a_2=nan_case))
    healthy = case_score(1.0, "healthy", site="b", lesion_ml=0.0, predicted_ml=broken, champion_dice=1.0)
    assert failed_rules(replaced(GOOD, healthy=healthy)) == ["predicted_ml of healthy", "false_positive_ml"]
    assert "champion" in failed_rules(replaced(GOOD, a_1=case_score(0.8, "a_1", site="a", champion_dice=broken)))


def test_an_empty_cohort_fails_every_rule():
    gate = apply_rules([], STRICT, Comparison("version 3"))
    assert [rule.name for rule in gate.rules] == ["mean_dice", "mean_dice_low", "worst_case_dice", "champion"]
    assert not any(rule.passed for rule in gate.rules)


def test_a_single_case_is_judged():
    assert failed_rules([case_score(0.5)], GateLimits(min_dice=0.5), champion=False) == []
    below = case_score(0.5 - 2e-9)
    assert failed_rules([below], GateLimits(min_dice=0.5), champion=False) == ["mean_dice"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("min_dice", "min_dice_ci", "min_case_dice", "min_site_dice", "max_regression")
          for value in (-0.1, 1.1, math.nan, math.inf)),
        *(("max_false_positive_ml", value) for value in (-1.0, math.nan, math.inf)),
    ],
)  # fmt: skip
def test_a_limit_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(InputError, match=rf"{name} is {value}; expected"):
        GateLimits(**{name: value})
