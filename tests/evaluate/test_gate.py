"""The verdict: exact limits, failing closed, and export only with a passing verdict on the same model."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.evaluate.rules import GateLimits, apply_rules
from components.evaluate.verdict import AppliedRules, Rule, Verdict, build_verdict, read_verdict, require_pass
from components.runtime.errors import InputError
from serving.versions.layout import VERDICT_FILE
from tests.evaluate.synthetic_scores import case_score

DIGEST = "a" * 64


def judge_dices(dices: list[float], min_dice: float = 0.5) -> Verdict:
    scores = [case_score(dice, f"case_{index}") for index, dice in enumerate(dices)]
    return build_verdict(apply_rules(scores, GateLimits(min_dice=min_dice)), scores, model_sha256=DIGEST, threshold=0.5)


def judge_rules(*rules: Rule) -> Verdict:
    return build_verdict(AppliedRules(list(rules)), [case_score(0.9)], model_sha256=DIGEST, threshold=0.5)


@pytest.mark.parametrize(
    ("dices", "min_dice", "verdict"),
    [
        ([0.5], 0.5, "pass"),
        ([math.nextafter(0.5, 0)], 0.5, "fail"),
        ([math.nextafter(0.5, 1)], 0.5, "pass"),
        ([0.4999999], 0.5, "fail"),
        ([0.2, 0.8], 0.5, "pass"),
        ([0.2, 0.7], 0.5, "fail"),
        ([1.0], 1.0, "pass"),
        ([0.0], 0.0, "pass"),
        ([0.9, math.nan], 0.5, "fail"),
    ],
)
def test_the_unrounded_mean_must_reach_the_limit(dices, min_dice, verdict):
    assert judge_dices(dices, min_dice).verdict == verdict


def test_a_miss_by_the_last_bit_is_reported_with_all_digits():
    (reason,) = judge_dices([math.nextafter(0.5, 0)]).reasons
    assert "is 0.49999999999999994, below the limit of 0.5" in reason


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf, None])
@pytest.mark.parametrize("at_least", [True, False])
def test_a_value_or_limit_that_is_not_finite_fails(broken, at_least):
    rule = Rule("mean_dice", "mean Dice", broken, 0.5, at_least)
    assert not rule.passed
    assert rule.margin is None
    assert f"no finite value; expected at {'least' if at_least else 'most'} 0.5" in rule.reason
    if broken is not None:
        assert not Rule("mean_dice", "mean Dice", 0.9, broken, at_least).passed


def test_an_empty_cohort_fails_with_finite_numbers():
    verdict = judge_dices([])
    assert verdict.verdict == "fail"
    assert verdict.test_dice == 0.0
    assert verdict.reasons == ["no test case was judged"]


def test_a_verdict_without_rules_fails():
    assert judge_rules().verdict == "fail"


def test_every_rule_must_hold():
    passed, failed = Rule("a", "a", 1.0, 0.5), Rule("b", "b", 3.0, 2.0, at_least=False)
    assert judge_rules(passed, failed).verdict == "fail"
    assert judge_rules(passed, failed).reasons == [failed.reason] == ["b is 3.0000, above the limit of 2"]
    assert judge_rules(passed, passed).verdict == "pass"


def test_an_upper_limit_holds_up_to_equality():
    assert Rule("fp", "false volume", 2.0, 2.0, at_least=False).passed
    assert not Rule("fp", "false volume", math.nextafter(2.0, 3), 2.0, at_least=False).passed
    assert Rule("fp", "false volume", 1.5, 2.0, at_least=False).margin == 0.5


@given(st.lists(st.floats(0, 1), max_size=4), st.floats(0, 1))
def test_a_written_verdict_is_read_back_unchanged(tmp_path_factory, dices, min_dice):
    folder = tmp_path_factory.mktemp("verdict")
    verdict = judge_dices(dices, min_dice)
    verdict.write(folder)
    assert read_verdict(folder / VERDICT_FILE) == verdict


def test_an_upper_limit_and_remarks_are_read_back(tmp_path):
    gate = AppliedRules([Rule("fp", "false volume", 3.0, 2.0, at_least=False)], ["a remark"])
    verdict = build_verdict(gate, [case_score(0.9)], model_sha256=DIGEST, threshold=0.5)
    verdict.write(tmp_path)
    assert read_verdict(tmp_path / VERDICT_FILE) == verdict
    assert verdict.verdict == "fail"


def test_the_file_names_the_model_the_cases_and_each_rule(tmp_path):
    judge_dices([0.6, 0.8]).write(tmp_path)
    content = json.loads((tmp_path / VERDICT_FILE).read_text())
    assert list(content) == [
        *("verdict", "reasons", "rules", "model_sha256", "threshold", "test_dice", "cases", "not_applied")
    ]
    assert content["verdict"] == "pass"
    assert content["model_sha256"] == DIGEST
    assert content["threshold"] == 0.5
    assert content["test_dice"] == pytest.approx(0.7)
    (rule,) = content["rules"]
    assert (rule["name"], rule["value"], rule["limit"]) == ("mean_dice", pytest.approx(0.7), 0.5)
    assert (rule["margin"], rule["passed"]) == (pytest.approx(0.2), True)
    assert content["cases"][1] == {"case_id": "case_1", "sha256_scan": "b" * 64, "sha256_mask": "c" * 64, "dice": 0.8}


def test_nan_is_written_as_null_and_still_fails(tmp_path):
    judge_rules(Rule("mean_dice", "mean Dice", math.nan, math.inf)).write(tmp_path)
    content = json.loads((tmp_path / VERDICT_FILE).read_text())
    assert content["rules"][0]["value"] is None
    assert read_verdict(tmp_path / VERDICT_FILE).verdict == "fail"


def test_a_pass_is_valid_only_for_its_own_model(tmp_path):
    judge_dices([0.9]).write(tmp_path)
    assert require_pass(tmp_path / VERDICT_FILE, DIGEST).test_dice == 0.9
    with pytest.raises(InputError, match=r"model aaaaaaaaaaaa….*dddddddddddd…"):
        require_pass(tmp_path / VERDICT_FILE, "d" * 64)
    with pytest.raises(InputError):
        require_pass(tmp_path / VERDICT_FILE, "")


def test_a_refusal_raises_with_its_reasons(tmp_path):
    judge_dices([0.3]).write(tmp_path)
    with pytest.raises(InputError, match=r"mean Dice .*\b1 test case.*0\.3000"):
        require_pass(tmp_path / VERDICT_FILE, DIGEST)


def test_a_missing_verdict_is_not_a_pass(tmp_path):
    with pytest.raises(InputError, match=r"verdict\.json: .*No such file"):
        require_pass(tmp_path / VERDICT_FILE, DIGEST)


def edit(folder, **changes) -> None:
    path = folder / VERDICT_FILE
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
def test_a_damaged_pass_is_not_a_pass(tmp_path, changes):
    judge_dices([0.9]).write(tmp_path)
    edit(tmp_path, **changes)
    with pytest.raises(InputError, match=r"verdict\.json"):
        require_pass(tmp_path / VERDICT_FILE, DIGEST)


def test_a_relabeled_refusal_is_not_a_pass(tmp_path):
    judge_dices([0.3]).write(tmp_path)
    edit(tmp_path, verdict="pass", reasons=[])
    with pytest.raises(InputError, match=r"'pass'.*'fail'"):
        require_pass(tmp_path / VERDICT_FILE, DIGEST)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "not json"])
def test_a_malformed_file_is_not_a_pass(tmp_path, text):
    (tmp_path / VERDICT_FILE).write_text(text)
    with pytest.raises(InputError, match=r"verdict\.json: .*Error"):
        require_pass(tmp_path / VERDICT_FILE, DIGEST)
