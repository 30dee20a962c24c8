"""A new model against the version that is served: the same cases, both through their own graphs."""

import json
import shutil
from pathlib import Path

import keras
import pytest
import tensorflow as tf

from components.evaluate.champion import Champion
from components.evaluate.rules import Limits
from components.export.signatures import ServedModel
from components.runtime.errors import InputError
from components.storage.gcs import upload_folder
from serving.versions.served_version import served_version
from tests.evaluate.test_evaluation import evaluate
from tests.evaluate.tiny_cohort import SIZE, step_network
from tests.storage.gcs_server import BUCKET


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
    found = evaluate(cohort, Limits(min_dice=0.2), champion=str(base))
    rule = champion_rule(found)
    assert rule.what == "change of the mean Dice on the same cases against version 2"
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
    found = evaluate(cohort, Limits(max_regression=0.0), champion=str(version))
    assert champion_rule(found).value == 0.0
    assert found.verdict.passed
    assert any(
        "3 test cases may have been among those version 1 was trained on" in line for line in found.verdict.not_applied
    )


def test_a_served_version_that_cannot_be_loaded_shuts_the_gate_and_the_verdict_says_so(cohort, tmp_path, capsys):
    version = tmp_path / "models" / "1"
    version.mkdir(parents=True)
    (version / "saved_model.pb").write_bytes(b"damaged")
    found = evaluate(cohort, champion=str(tmp_path / "models"))
    assert found.verdict.verdict == "fail"
    assert "against version 1, which cannot be loaded (roll back to one that can): there is no finite number" in (
        found.verdict.sentence
    )
    assert found.verdict.sentence in (tmp_path / "report.html").read_text()
    assert "warning: version 1: no model to compare with" in capsys.readouterr().out


class _OtherModel(tf.Module):
    """A SavedModel that is none of ours."""

    def __init__(self, outputs: dict[str, float], shape: tuple[int | None, ...]):
        super().__init__()
        self.outputs, self.shape = outputs, shape

    def save(self, folder: Path, signature: str) -> None:
        @tf.function(input_signature=[tf.TensorSpec(self.shape, tf.int16, name="slices_hu")])
        def call(slices_hu):
            return {name: tf.fill(tf.shape(slices_hu)[:1], value) for name, value in self.outputs.items()}

        tf.saved_model.save(self, str(folder), signatures={signature: call})


@pytest.mark.parametrize(
    ("outputs", "shape", "signature"),
    [
        ({"lesion_probability": 0.5, "threshold": 0.5}, (None, 8, 8), "serving_default"),
        ({"scores": 0.5}, (None, 8, 8), "network"),
        ({"lesion_probability": 0.5, "threshold": 0.5}, (None, None, None), "network"),
        ({"lesion_probability": 0.5, "threshold": 0.5}, (None, 8, 8), "network"),
    ],
    ids=["no signature", "other outputs", "no fixed grid", "one number a slice"],
)
def test_a_model_that_answers_otherwise_than_ours_is_no_champion(tmp_path, outputs, shape, signature):
    _OtherModel(outputs, shape).save(tmp_path / "1", signature)
    with pytest.raises(InputError, match=r"version 1: no model to compare with \(.*\); roll back"):
        Champion.load(tmp_path / "1", "version 1")


def test_a_served_version_that_answers_nan_shuts_the_gate(cohort, tmp_path, capsys):
    network = keras.Sequential([keras.layers.Input((SIZE, SIZE)), keras.layers.Rescaling(float("nan"))])
    ServedModel(network, SIZE, 0.25).save(tmp_path / "models" / "4")
    found = evaluate(cohort, champion=str(tmp_path / "models"))
    assert not champion_rule(found).passed
    assert champion_rule(found).what.endswith("against version 4, which could not be scored on every test case")
    assert "warning: version 4: case test_1: the model answers with" in capsys.readouterr().out


def test_the_served_version_is_fetched_from_cloud_storage(cohort, tmp_path, gcs):
    upload_folder(publish(tmp_path / "models", 1, at_hu=5000), f"gs://{BUCKET}/models/9", last="saved_model.pb")
    upload_folder(publish(tmp_path / "models", 2, at_hu=-25), f"gs://{BUCKET}/models/10", last="saved_model.pb")
    gcs.put("models/11/variables/variables.index", b"an upload under way")
    for address in (f"gs://{BUCKET}/models", f"gs://{BUCKET}/models/", f"gs://{BUCKET}/models/10"):
        found = evaluate(cohort, champion=address)
        assert champion_rule(found).what == "change of the mean Dice on the same cases against version 10"
        assert champion_rule(found).value == 0.0
        assert found.verdict.passed


def test_a_prefix_without_a_version_means_a_first_model_and_a_bucket_that_is_not_there_ends_the_step(cohort, gcs):
    gcs.put("models/readme.txt", b"none yet")
    found = evaluate(cohort, champion=f"gs://{BUCKET}/models")
    assert any("no version is served yet" in line for line in found.verdict.not_applied)
    with pytest.raises(InputError, match="gs://elsewhere/models: not found"):
        evaluate(cohort, champion="gs://elsewhere/models")


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_a_base_without_a_version_means_a_first_model(cohort, tmp_path, name):
    (tmp_path / "empty").mkdir()
    found = evaluate(cohort, champion=str(tmp_path / name))
    assert found.verdict.passed
    assert found.comparison is None
    assert any("no version is served yet" in line for line in found.verdict.not_applied)


def test_the_newest_whole_version_is_the_served_one(tmp_path):
    for name in ("9", "10", "11", "latest", ".staging-3"):
        (tmp_path / name).mkdir()
        if name != "11":
            (tmp_path / name / "saved_model.pb").touch()
    for base, expected in ((tmp_path, "10"), (tmp_path / "9", "9")):
        assert served_version(f"{base}/") == str(tmp_path / expected)
