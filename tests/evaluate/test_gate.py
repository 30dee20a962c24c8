"""The gate: its boundaries, what makes it fail closed, and that nobody gets past it with another's verdict."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.evaluate.rules import Limits, gate_rules
from components.evaluate.verdict import Rule, Verdict, judge, read_verdict, require_pass
from components.runtime.errors import InputError
from tests.evaluate.made_up_scores import scored

DIGEST = "a" * 64


def judged(dices: list[float], min_dice: float = 0.5) -> Verdict:
    scores = [scored(dice, f"case_{index}") for index, dice in enumerate(dices)]
    return judge(gate_rules(scores, Limits(min_dice)).rules, scores, DIGEST, 0.5)


@pytest.mark.parametrize(
    ("dice", "verdict"),
    [(0.5, "pass"), (math.nextafter(0.5, 0), "fail"), (math.nextafter(0.5, 1), "pass"), (0.4999999, "fail")],
)
def test_equality_is_enough_and_nothing_is_rounded(dice, verdict):
    assert judged([dice]).verdict == verdict


def test_a_miss_by_the_last_bit_is_told_with_all_its_digits():
    (reason,) = judged([math.nextafter(0.5, 0)]).reasons
    assert "0.49999999999999994" in reason
    assert "misses the limit of 0.5" in reason


def test_the_mean_decides_and_not_each_case():
    assert judged([0.2, 0.8]).verdict == "pass"
    assert judged([0.2, 0.7]).verdict == "fail"


def test_a_perfect_model_passes_a_limit_of_one_and_the_worst_one_a_limit_of_nought():
    assert judged([1.0], min_dice=1.0).passed
    assert judged([0.0], min_dice=0.0).passed


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf, None])
def test_a_value_that_is_not_a_finite_number_fails(broken):
    for at_least in (True, False):
        rule = Rule("mean_dice", "mean Dice", broken, 0.5, at_least)
        assert not rule.passed
        assert rule.margin is None
        assert "no finite number" in rule.reason


@pytest.mark.parametrize("limit", [math.nan, math.inf, -math.inf])
def test_a_limit_that_is_not_a_finite_number_fails(limit):
    assert not Rule("mean_dice", "mean Dice", 0.9, limit, at_least=True).passed
    assert not Rule("mean_dice", "mean Dice", 0.9, limit, at_least=False).passed


def test_one_case_with_a_nan_dice_fails_the_cohort():
    assert judged([0.9, math.nan]).verdict == "fail"


def test_an_empty_cohort_fails_with_finite_numbers():
    verdict = judged([])
    assert verdict.verdict == "fail"
    assert verdict.test_dice == 0.0
    assert verdict.reasons == ["no test case was judged"]


def test_no_rule_at_all_fails():
    assert judge([], [scored(0.9)], DIGEST, 0.5).verdict == "fail"


def test_every_rule_must_hold():
    held, broken = Rule("a", "a", 1.0, 0.5), Rule("b", "b", 3.0, 2.0, at_least=False)
    assert judge([held, broken], [scored(0.9)], DIGEST, 0.5).verdict == "fail"
    assert judge([held, broken], [scored(0.9)], DIGEST, 0.5).reasons == [broken.reason]
    assert judge([held, held], [scored(0.9)], DIGEST, 0.5).verdict == "pass"


def test_a_rule_of_at_most_holds_up_to_its_limit():
    assert Rule("fp", "false volume", 2.0, 2.0, at_least=False).passed
    assert not Rule("fp", "false volume", math.nextafter(2.0, 3), 2.0, at_least=False).passed
    assert Rule("fp", "false volume", 1.5, 2.0, at_least=False).margin == 0.5


@pytest.mark.parametrize("min_dice", [-0.1, 1.1, math.nan, math.inf])
def test_a_min_dice_that_no_dice_can_be_held_against_is_refused(min_dice):
    with pytest.raises(InputError, match="min_dice"):
        Limits(min_dice)


@given(st.lists(st.floats(0, 1), max_size=4), st.floats(0, 1))
def test_what_is_written_is_read_back_and_decides_the_same(tmp_path_factory, dices, min_dice):
    folder = tmp_path_factory.mktemp("verdict")
    verdict = judged(dices, min_dice)
    verdict.write(folder)
    assert read_verdict(folder / "verdict.json") == verdict


def test_the_file_names_the_model_the_cases_and_each_rule(tmp_path):
    judged([0.6, 0.8]).write(tmp_path)
    content = json.loads((tmp_path / "verdict.json").read_text())
    assert content["verdict"] == "pass"
    assert content["model_sha256"] == DIGEST
    assert content["threshold"] == 0.5
    assert content["test_dice"] == pytest.approx(0.7)
    (rule,) = content["rules"]
    assert (rule["name"], rule["value"], rule["limit"]) == ("mean_dice", pytest.approx(0.7), 0.5)
    assert (rule["margin"], rule["passed"]) == (pytest.approx(0.2), True)
    assert content["cases"][1] == {
        "case_id": "case_1",
        "sha256_scan": "b" * 64,
        "sha256_mask": "c" * 64,
        "dice": 0.8,
    }


def test_a_nan_is_written_as_null_and_still_fails(tmp_path):
    rules = [Rule("mean_dice", "mean Dice", math.nan, math.inf)]
    judge(rules, [scored(0.9)], DIGEST, 0.5).write(tmp_path)
    content = json.loads((tmp_path / "verdict.json").read_text())
    assert content["rules"][0]["value"] is None
    assert read_verdict(tmp_path / "verdict.json").verdict == "fail"


def test_a_pass_opens_the_door_for_its_own_model_alone(tmp_path):
    judged([0.9]).write(tmp_path)
    assert require_pass(tmp_path / "verdict.json", DIGEST).test_dice == 0.9
    with pytest.raises(InputError, match=r"is about the model aaaaaaaaaaaa…, not dddddddddddd…"):
        require_pass(tmp_path / "verdict.json", "d" * 64)
    with pytest.raises(InputError):
        require_pass(tmp_path / "verdict.json", "")


def test_a_refusal_is_passed_on_with_its_reasons(tmp_path):
    judged([0.3]).write(tmp_path)
    with pytest.raises(InputError, match=r"refuses this model: mean Dice over 1 test case is 0\.3000"):
        require_pass(tmp_path / "verdict.json", DIGEST)


def test_a_missing_verdict_is_no_pass(tmp_path):
    with pytest.raises(InputError, match="run the evaluate step first"):
        require_pass(tmp_path / "verdict.json", DIGEST)


def edited(folder, **changes) -> None:
    path = folder / "verdict.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    "changes",
    [
        {"rules": []},
        {"cases": []},
        {"rules": None},
        {"rules": [{"name": "mean_dice"}]},
        {"rules": [{"name": "mean_dice", "what": "mean Dice", "value": 0.9, "limit": 0.5, "at_least": "no"}]},
        {"rules": [{"name": "mean_dice", "what": "mean Dice", "value": math.nan, "limit": 0.5, "at_least": True}]},
        {"threshold": None},
        {"verdict": "Pass"},
        {"cases": ["case_0"]},
    ],
)
def test_a_passing_verdict_that_was_damaged_is_no_pass(tmp_path, changes):
    judged([0.9]).write(tmp_path)
    edited(tmp_path, **changes)
    with pytest.raises(InputError, match=r"verdict\.json"):
        require_pass(tmp_path / "verdict.json", DIGEST)


def test_a_refusal_that_was_relabeled_is_no_pass(tmp_path):
    judged([0.3]).write(tmp_path)
    edited(tmp_path, verdict="pass", reasons=[])
    with pytest.raises(InputError, match="states 'pass', but its rules give 'fail'"):
        require_pass(tmp_path / "verdict.json", DIGEST)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "not json"])
def test_a_file_that_is_no_verdict_is_no_pass(tmp_path, text):
    (tmp_path / "verdict.json").write_text(text)
    with pytest.raises(InputError, match="not a verdict"):
        require_pass(tmp_path / "verdict.json", DIGEST)
