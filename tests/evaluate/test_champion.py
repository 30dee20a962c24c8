"""A new model against the version that is served: the same cases, both through their own graphs."""

import json
import shutil
from pathlib import Path

import pytest

from components.ct.errors import InputError
from components.evaluate.champion import Champion, served_version
from components.evaluate.rules import Limits
from components.export.signatures import ServedModel
from tests.evaluate.test_evaluation import evaluate
from tests.evaluate.tiny_cohort import SIZE, step_network


def publish(base: Path, version: int, at_hu: float, verdict: Path | None = None) -> Path:
    folder = base / str(version)
    ServedModel(step_network(at_hu), SIZE, 0.25).save(folder)
    (folder / "assets.extra").mkdir(exist_ok=True)
    if verdict:
        shutil.copyfile(verdict, folder / "assets.extra" / "verdict.json")
    return folder


def champion_rule(found):
    return next(rule for rule in found.verdict.rules if rule.name == "champion")


def test_a_model_is_held_against_the_newest_served_version_on_the_same_cases(cohort, tmp_path):
    base = tmp_path / "models"
    evaluate(cohort)
    publish(base, 1, at_hu=5000)
    publish(base, 2, at_hu=-25, verdict=tmp_path / "evaluation" / "verdict.json")
    step_network(at_hu=5000).save(cohort.model / "model.keras")  # finds nothing
    found = evaluate(cohort, Limits(min_dice=0.2), champion=base)
    rule = champion_rule(found)
    assert rule.what == "change of the mean Dice against version 2 on the same cases"
    assert rule.value == pytest.approx(-2 / 3)  # two of three cases are lost
    assert found.verdict.verdict == "fail"
    assert found.comparison.unknown_cases == 0
    assert {row.case_id: row.champion_dice for row in found.scores} == {"test_1": 1, "test_2": 1, "test_healthy": 1}
    (again,) = (
        row
        for row in json.loads((tmp_path / "evaluation" / "verdict.json").read_text())["rules"]
        if row["name"] == "champion"
    )
    assert again["limit"] == -0.02


def test_a_model_that_is_as_good_as_the_served_one_may_replace_it(cohort, tmp_path):
    version = publish(tmp_path / "models", 1, at_hu=-25)
    found = evaluate(cohort, Limits(max_regression=0.0), champion=version)
    assert champion_rule(found).value == 0.0
    assert found.verdict.passed
    assert any(
        "3 test cases may have been among those version 1 was trained on" in line for line in found.verdict.not_applied
    )


def test_a_served_version_that_cannot_be_loaded_shuts_the_gate(cohort, tmp_path, capsys):
    version = tmp_path / "models" / "1"
    version.mkdir(parents=True)
    (version / "saved_model.pb").write_bytes(b"damaged")
    found = evaluate(cohort, champion=tmp_path / "models")
    assert found.verdict.verdict == "fail"
    assert "there is no finite number to judge by" in found.verdict.sentence
    assert f"warning: {version}: no model to compare with" in capsys.readouterr().out
    with pytest.raises(InputError, match="no model to compare with"):
        Champion.load(version)


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_a_base_without_a_version_means_a_first_model(cohort, tmp_path, name):
    (tmp_path / "empty").mkdir()
    found = evaluate(cohort, champion=tmp_path / name)
    assert found.verdict.passed
    assert found.comparison is None
    assert any("no version is served yet" in line for line in found.verdict.not_applied)


def test_the_newest_whole_version_is_the_served_one(tmp_path):
    for name in ("9", "10", "11", "latest", ".staging-3"):
        (tmp_path / name).mkdir()
        if name != "11":
            (tmp_path / name / "saved_model.pb").touch()
    assert served_version(tmp_path) == tmp_path / "10"
    assert served_version(tmp_path / "9") == tmp_path / "9"
