"""The KFP interface: it writes every output the UI shows, and each parameter reaches its rule."""

import json
from dataclasses import fields
from pathlib import Path

import pytest
from kfp import dsl

from components.evaluate.component import evaluate
from components.evaluate.limits import GateLimits
from components.runtime.files import sha256_of


@pytest.fixture
def run(cohort, tmp_path):
    def call(**parameters):
        kinds = {"evaluation": dsl.Artifact, "metrics": dsl.Metrics, "classification": dsl.ClassificationMetrics}
        kinds |= {"report": dsl.HTML, "model_card": dsl.Markdown}
        outputs = {name: kind(name=name, uri=str(tmp_path / "out" / name)) for name, kind in kinds.items()}
        inputs = {name: dsl.Artifact(uri=str(getattr(cohort, name))) for name in ("cases", "shards", "model")}
        return evaluate.python_func(**inputs, **outputs, **parameters), outputs

    return call


def test_the_outputs_are_finite_metrics_a_curve_a_confusion_matrix_and_two_pages(run):
    (verdict, test_dice, verdict_sha256), outputs = run()
    assert (verdict, test_dice) == ("pass", 1.0)
    assert verdict_sha256 == sha256_of(Path(outputs["evaluation"].path) / "verdict.json")
    assert outputs["metrics"].metadata["test_dice"] == 1.0
    json.dumps(outputs["metrics"].metadata, allow_nan=False)
    classification = outputs["classification"].metadata
    json.dumps(classification, allow_nan=False)
    assert len(classification["confidenceMetrics"]) == 257
    rows = [row["row"] for row in classification["confusionMatrix"]["rows"]]
    assert sum(map(sum, rows)) == 32 * 32 * 35 + 64 * 48 * 4 + 32 * 32 * 2
    assert rows[0][0] == 12 * 12 * 31 + 12 * 12 * 3
    assert (rows[0][1], rows[1][0]) == (0, 0)
    for name, beginning in (("report", "<!doctype html>"), ("model_card", "# Model card")):
        with open(outputs[name].path) as file:
            assert file.read().startswith(beginning)


def test_every_parameter_reaches_the_gate(run, tmp_path):
    run(
        min_dice=0.1,
        min_dice_ci=0.2,
        min_case_dice=0.3,
        min_site_dice=0.4,
        max_false_positive_ml=5.0,
        hard_cases=["test_1"],
    )
    with open(tmp_path / "out" / "evaluation" / "verdict.json") as file:
        limits = {rule["name"]: rule["limit"] for rule in json.load(file)["rules"]}
    assert limits == {
        "mean_dice": 0.1,
        "mean_dice_low": 0.2,
        "worst_case_dice": 0.3,
        "mean_dice of synthetic": 0.4,
        "false_positive_ml": 5.0,
    }
    assert "without 1 hard case" in (tmp_path / "out" / "report").read_text()


def test_a_limit_out_of_range_exits_with_one_line(run):
    with pytest.raises(SystemExit, match=r"error: min_dice is 2; expected .* 0 to 1"):
        run(min_dice=2)


def test_the_defaults_of_the_component_are_those_of_the_gate():
    inputs, defaults = evaluate.component_spec.inputs, GateLimits()
    for name in {field.name for field in fields(defaults)} - {"hard_cases"}:
        assert inputs[name].default == getattr(defaults, name)
    assert inputs["champion"].optional
