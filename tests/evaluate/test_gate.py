"""The verdict: exact limits, failing closed, and export only with a passing verdict on the same model, unedited."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.evaluate.cohort import Comparison
from components.evaluate.limits import GateLimits
from components.evaluate.rules import Rule
from components.evaluate.verdict import Verdict, judge, read_verdict, require_pass
from components.runtime.errors import InputError
from components.runtime.files import sha256_of
from serving.versions.layout import VERDICT_FILE
from tests.evaluate.synthetic_scores import case_score

DIGEST = "a" * 64


def judge_dices(dices: list[float], min_dice: float = 0.5) -> Verdict:
    scores = [case_score(dice, f"case_{index}") for index, dice in enumerate(dices)]
    return judge(scores, GateLimits(min_dice=min_dice), model_sha256=DIGEST, threshold=0.5)


def judge_by_all_rules(healthy_ml: float = 1.0) -> Verdict:
    """A pass by every rule, unless `healthy_ml` exceeds 2 mL."""
    scores = [
        case_score(0.8, "a", patient_id="anna", site="x", champion_dice=0.75),
        case_score(0.9, "b", patient_id="bert", site="y", champion_dice=0.85),
        case_score(0.0, "c", patient_id="carl", site="y", champion_dice=1.0, lesion_ml=0.0, predicted_ml=healthy_ml),
    ]
    limits = GateLimits(
        min_dice_ci=0.1, min_case_dice=0.2, min_site_dice=0.3, max_false_positive_ml=2.0, hard_cases=("h",)
    )
    comparison = Comparison.from_scores(scores, "version 3", unknown_cases=1)
    return judge(scores, limits, comparison, model_sha256=DIGEST, threshold=0.5)


def passed(path, model_sha256: str = DIGEST, verdict_sha256: str = "") -> Verdict:
    """Require a pass of the file at `path`, by default with its present digest."""
    return require_pass(path, model_sha256=model_sha256, verdict_sha256=verdict_sha256 or sha256_of(path))


@pytest.mark.parametrize(
    ("dices", "min_dice", "verdict"),
    [
        ([0.5], 0.5, "pass"),
        ([math.nextafter(0.5, 0)], 0.5, "pass"),
        ([0.5 - 2e-9], 0.5, "fail"),
        ([math.nextafter(0.5, 1)], 0.5, "pass"),
        ([0.4999999], 0.5, "fail"),
        ([0.2, 0.8], 0.5, "pass"),
        ([0.2, 0.7], 0.5, "fail"),
        ([1.0], 1.0, "pass"),
        ([0.0], 0.0, "pass"),
        ([0.9, math.nan], 0.5, "fail"),
    ],
)
def test_the_mean_must_reach_the_limit(dices, min_dice, verdict):
    assert judge_dices(dices, min_dice).verdict == verdict


@pytest.mark.parametrize(
    ("value", "limit", "text"),
    [
        (0.5 - 2e-9, 0.5, "is 0.499999998, below the limit of 0.5"),
        (math.nextafter(0.80004, 0), 0.80004, "is 0.80004, which meets the limit of 0.80004"),
        (0.80004, 0.80004, "is 0.80004, which meets the limit of 0.80004"),
        (0.800049, 0.80004, "is 0.800049, which meets the limit of 0.80004"),
        (0.12344, 0.1234444, "is 0.1234, below the limit of 0.123444"),
        (0.62, 0.5, "is 0.6200, which meets the limit of 0.5"),
    ],
)
def test_a_reason_has_the_digits_that_show_the_outcome(value, limit, text):
    assert text in judge_dices([value], limit).reasons[0]


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
    assert verdict.reasons[0] == "no test case of 0 has lesion, so the model cannot be judged"


def test_every_rule_must_hold():
    assert judge_by_all_rules().verdict == "pass"
    verdict = judge_by_all_rules(healthy_ml=3.0)
    assert verdict.verdict == "fail"
    assert verdict.reasons == [
        "largest volume in mL predicted in 1 scan without lesion is 3.0000, above the limit of 2"
    ]


def test_an_upper_limit_holds_up_to_equality():
    assert Rule("fp", "false volume", 2.0, 2.0, at_least=False).passed
    assert not Rule("fp", "false volume", 2.0 + 2e-9, 2.0, at_least=False).passed
    assert Rule("fp", "false volume", 1.5, 2.0, at_least=False).margin == 0.5


@given(st.lists(st.floats(0, 1), max_size=4), st.floats(0, 1))
def test_a_written_verdict_is_read_back_unchanged(tmp_path_factory, dices, min_dice):
    folder = tmp_path_factory.mktemp("verdict")
    verdict = judge_dices(dices, min_dice)
    verdict.write(folder)
    assert read_verdict(folder / VERDICT_FILE) == verdict


def test_a_verdict_by_all_rules_is_read_back_and_names_no_patient(tmp_path):
    verdict = judge_by_all_rules()
    verdict.write(tmp_path)
    assert verdict.passed
    assert len(verdict.rules) == 7
    assert passed(tmp_path / VERDICT_FILE, verdict_sha256=verdict.sha256) == verdict
    assert not any(name in (tmp_path / VERDICT_FILE).read_text() for name in ("anna", "bert", "carl"))


def test_the_file_names_the_model_the_cases_and_each_rule(tmp_path):
    judge_dices([0.6, 0.8]).write(tmp_path)
    content = json.loads((tmp_path / VERDICT_FILE).read_text())
    assert list(content) == [
        *("verdict", "reasons", "test_dice", "rules", "not_applied"),
        *("model_sha256", "threshold", "limits", "cases", "comparison", "model_card_sha256"),
    ]
    assert content["verdict"] == "pass"
    assert content["model_sha256"] == DIGEST
    assert content["threshold"] == 0.5
    assert content["test_dice"] == pytest.approx(0.7)
    (rule,) = content["rules"]
    assert (rule["name"], rule["value"], rule["limit"]) == ("mean_dice", pytest.approx(0.7), 0.5)
    assert (rule["margin"], rule["passed"]) == (pytest.approx(0.2), True)
    case = content["cases"][1]
    assert (case["case_id"], case["sha256_scan"], case["sha256_mask"]) == ("case_1", "b" * 64, "c" * 64)
    assert (case["dice"], case["patient_id"]) == (0.8, "000002")


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_written_as_null_and_still_fails(tmp_path, broken):
    verdict = judge_dices([broken, 0.9])
    verdict.write(tmp_path)
    content = json.loads((tmp_path / VERDICT_FILE).read_text())
    assert (content["rules"][0]["value"], content["cases"][0]["dice"], content["test_dice"]) == (None, None, 0.0)
    assert read_verdict(tmp_path / VERDICT_FILE).verdict == verdict.verdict == "fail"


@pytest.mark.parametrize("name", ["lesion_ml", "predicted_ml"])
@pytest.mark.parametrize("volume", [None, math.nan, -1.0, -1e-9])
def test_a_file_with_a_volume_that_no_scan_has_is_not_a_pass(tmp_path, name, volume):
    file = tmp_path / VERDICT_FILE
    file.write_text(json.dumps(edited(CONTENT, {("cases", 0, name): volume})))
    with pytest.raises(InputError, match=r"verdict\.json: .*rules.*\(fail\)"):
        passed(file)


def test_a_pass_is_valid_only_for_its_own_model(tmp_path):
    judge_dices([0.9]).write(tmp_path)
    assert passed(tmp_path / VERDICT_FILE).test_dice == 0.9
    for other in ("d" * 64, ""):
        with pytest.raises(InputError, match=rf"model aaaaaaaaaaaa….*{other[:12]}…"):
            passed(tmp_path / VERDICT_FILE, other)


def test_a_refusal_raises_with_its_reasons(tmp_path):
    judge_dices([0.3]).write(tmp_path)
    with pytest.raises(InputError, match=r"mean Dice .*\b1 test case.*0\.3000"):
        passed(tmp_path / VERDICT_FILE)


def test_a_missing_verdict_is_not_a_pass(tmp_path):
    with pytest.raises(InputError, match=r"verdict\.json: .*No such file"):
        passed(tmp_path / VERDICT_FILE, verdict_sha256=DIGEST)


DELETED = object()
OTHER_VALUES = [DELETED, None, 0, 0.0, 0.001, 0.999, 1, -1, math.nan, math.inf, 1e300, "", "pass", "a", [], {}, True]


def paths_in(content, path=()):
    """Yield the path of every member of a JSON document."""
    members = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in members:
        yield (*path, key)
        yield from paths_in(value, (*path, key))


def edited(content, edits):
    """Return a copy of a JSON document with the value at each path replaced or deleted."""
    content = json.loads(json.dumps(content))
    for (*parents, key), value in edits.items():
        member = content
        for parent in parents:
            member = member[parent]
        if value is DELETED:
            del member[key]
        else:
            member[key] = value
    return content


CONTENT = json.loads(judge_by_all_rules().text)
EVIDENCE = (
    "model_sha256",
    "threshold",
    "limits",
    "cases",
    "comparison",
    "model_card_sha256",
)  # the rest follows from it


@pytest.mark.parametrize("path", list(paths_in(CONTENT)), ids=lambda path: ".".join(map(str, path)))
def test_any_edit_of_the_file_is_refused_also_with_everything_that_follows_from_it(tmp_path, path):
    file, digest = tmp_path / VERDICT_FILE, judge_by_all_rules().sha256
    for value in OTHER_VALUES:
        content = edited(CONTENT, {path: value})
        if content == CONTENT:
            continue
        file.write_text(json.dumps(content, indent=2) + "\n")
        with pytest.raises(InputError, match=r"verdict\.json: "):
            passed(file, verdict_sha256=digest)
        if path[0] not in EVIDENCE:  # refused by its own content, whatever digest is expected
            with pytest.raises(InputError, match=rf"verdict\.json: .*{path[0]}"):
                passed(file)


@pytest.mark.parametrize("threshold", [0, 0.0, 1, 1.0, -0.5, 7, math.nan, math.inf, None, "0.5"])
def test_a_threshold_that_marks_everything_or_nothing_is_not_a_pass(tmp_path, threshold):
    file = tmp_path / VERDICT_FILE
    file.write_text(json.dumps(edited(CONTENT, {("threshold",): threshold})))
    with pytest.raises(InputError, match="threshold"):
        passed(file)


@pytest.mark.parametrize(
    "edits",
    [
        {("rules", 0, "value"): 0.01, ("rules", 0, "limit"): 0.005},
        {("rules", 0, "value"): 0.999, ("test_dice",): 0.01, **{("cases", row, "dice"): 0.01 for row in range(3)}},
        {("test_dice",): 0.01, **{("cases", row, "dice"): 0.01 for row in range(3)}},
        {("limits", "min_dice"): 0.005, ("rules", 0, "limit"): 0.005},
        {("cases", 0, "dice"): 0.9, ("cases", 1, "dice"): 0.8, ("cases", 1, "lesion_ml"): 0.0},
        {("comparison", "mean_change"): 0.5, ("rules", 6, "value"): 0.5},
        {("verdict",): "fail", ("reasons",): []},
        {("approved_by",): "nobody"},
    ],
)
def test_edits_that_agree_with_each_other_are_refused_by_the_scores(tmp_path, edits):
    file = tmp_path / VERDICT_FILE
    file.write_text(json.dumps(edited(CONTENT, edits)))
    with pytest.raises(InputError, match=r"verdict\.json: .*not what its scores"):
        passed(file)


def test_a_forged_verdict_is_refused_by_the_digest_of_evaluate(tmp_path):
    refusal, forged = judge_dices([0.3]), judge_dices([0.3], min_dice=0.1)
    forged.write(tmp_path)
    with pytest.raises(InputError, match=r"SHA-256.*edited"):
        passed(tmp_path / VERDICT_FILE, verdict_sha256=refusal.sha256)
    assert passed(tmp_path / VERDICT_FILE, verdict_sha256=forged.sha256) == forged


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "not json", "[" * 100_000])
def test_a_malformed_file_is_not_a_pass(tmp_path, text):
    (tmp_path / VERDICT_FILE).write_text(text)
    with pytest.raises(InputError, match=r"verdict\.json: .*Error"):
        passed(tmp_path / VERDICT_FILE)
