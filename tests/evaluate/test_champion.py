"""The comparison with the served version: both models on the same test cases, each in its own graph."""

import json
import shutil
from pathlib import Path

import keras
import pytest
import tensorflow as tf

from components.evaluate.champion import Champion
from components.evaluate.limits import GateLimits
from components.export.signatures import ServedModel
from components.runtime.errors import InputError
from components.storage.gcs import upload_folder
from serving.versions.layout import ASSETS_EXTRA, VERDICT_FILE, newest_version
from tests.evaluate.test_evaluation import evaluate
from tests.evaluate.tiny_cohort import SIZE, step_network
from tests.storage.gcs_server import BUCKET


def write_version(base: Path, version: int, at_hu: float, verdict: Path | None = None) -> Path:
    folder = base / str(version)
    ServedModel(step_network(at_hu), SIZE, 0.25).save(folder)
    (folder / ASSETS_EXTRA).mkdir(exist_ok=True)
    if verdict:
        shutil.copyfile(verdict, folder / ASSETS_EXTRA / VERDICT_FILE)
    return folder


def champion_rule(evaluation):
    return next(rule for rule in evaluation.verdict.rules if rule.name == "champion")


def test_a_model_is_compared_with_the_newest_served_version_on_the_same_cases(cohort, tmp_path):
    base = tmp_path / "models"
    evaluate(cohort)
    write_version(base, 1, at_hu=5000)
    write_version(base, 2, at_hu=-25, verdict=tmp_path / "evaluation" / VERDICT_FILE)
    step_network(at_hu=5000).save(cohort.model / "model.keras")  # predicts no lesion
    evaluation = evaluate(cohort, GateLimits(min_dice=0.2), champion=str(base))
    rule = champion_rule(evaluation)
    assert rule.what == "change of the mean Dice on the same cases against version 2"
    assert rule.value == -1.0  # both cases with lesion drop to 0
    assert evaluation.verdict.verdict == "fail"
    assert evaluation.comparison.unknown_cases == 0
    assert {row.case_id: row.champion_dice for row in evaluation.scores} == {
        "test_1": 1,
        "test_2": 1,
        "test_healthy": 1,
    }
    written = json.loads((tmp_path / "evaluation" / VERDICT_FILE).read_text())["rules"]
    assert [row["limit"] for row in written if row["name"] == "champion"] == [-0.02]


def test_a_model_as_good_as_the_served_one_passes(cohort, tmp_path):
    version = write_version(tmp_path / "models", 1, at_hu=-25)
    evaluation = evaluate(cohort, GateLimits(max_regression=0.0), champion=str(version))
    assert champion_rule(evaluation).value == 0.0
    assert evaluation.verdict.passed
    assert any("version 1 may have been trained on 2 test cases" in line for line in evaluation.verdict.not_applied)


def test_a_served_version_that_cannot_be_loaded_fails_the_gate_and_the_verdict_names_it(cohort, tmp_path, caplog):
    version = tmp_path / "models" / "1"
    version.mkdir(parents=True)
    (version / "saved_model.pb").write_bytes(b"damaged")
    evaluation = evaluate(cohort, champion=str(tmp_path / "models"))
    assert evaluation.verdict.verdict == "fail"
    sentence = evaluation.verdict.sentence
    advice = "restore its files, or move its folder out of the model base"
    assert f"version 1, which cannot be loaded ({advice}" in sentence
    assert advice in caplog.text
    assert sentence in (tmp_path / "report.html").read_text()
    assert "version 1: cannot be loaded" in caplog.text


class _OtherModel(tf.Module):
    """A SavedModel with other signatures than an exported model."""

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
    ids=["no signature", "other outputs", "any grid", "one number per slice"],
)
def test_a_model_with_other_signatures_is_refused_as_champion(tmp_path, outputs, shape, signature):
    _OtherModel(outputs, shape).save(tmp_path / "1", signature)
    with pytest.raises(InputError, match=r"version 1: .*\(.*\); .*move its folder"):
        Champion.load(tmp_path / "1", "version 1")


def test_a_served_version_that_returns_nan_fails_the_gate(cohort, tmp_path, caplog):
    network = keras.Sequential([keras.layers.Input((SIZE, SIZE)), keras.layers.Rescaling(float("nan"))])
    ServedModel(network, SIZE, 0.25).save(tmp_path / "models" / "4")
    evaluation = evaluate(cohort, champion=str(tmp_path / "models"))
    assert not champion_rule(evaluation).passed
    assert "against version 4, which could not be scored on every test case (" in champion_rule(evaluation).what
    assert "version 4: case test_1: the model returns" in caplog.text


def test_the_served_version_is_downloaded_from_cloud_storage(cohort, tmp_path, gcs):
    upload_folder(write_version(tmp_path / "models", 1, at_hu=5000), f"gs://{BUCKET}/models/9", last="saved_model.pb")
    upload_folder(write_version(tmp_path / "models", 2, at_hu=-25), f"gs://{BUCKET}/models/10", last="saved_model.pb")
    gcs.put("models/11/variables/variables.index", b"an upload under way")
    for uri in (f"gs://{BUCKET}/models", f"gs://{BUCKET}/models/", f"gs://{BUCKET}/models/10"):
        evaluation = evaluate(cohort, champion=uri)
        assert champion_rule(evaluation).what == "change of the mean Dice on the same cases against version 10"
        assert champion_rule(evaluation).value == 0.0
        assert evaluation.verdict.passed


def test_a_prefix_without_versions_is_a_first_model_and_a_missing_bucket_is_an_error(cohort, gcs):
    gcs.put("models/readme.txt", b"none yet")
    evaluation = evaluate(cohort, champion=f"gs://{BUCKET}/models")
    assert any("no version is served yet" in line for line in evaluation.verdict.not_applied)
    with pytest.raises(InputError, match="gs://elsewhere/models: "):
        evaluate(cohort, champion="gs://elsewhere/models")


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_a_model_base_without_versions_is_a_first_model(cohort, tmp_path, name):
    (tmp_path / "empty").mkdir()
    evaluation = evaluate(cohort, champion=str(tmp_path / name))
    assert evaluation.verdict.passed
    assert evaluation.comparison is None
    assert any("no version is served yet" in line for line in evaluation.verdict.not_applied)


def test_the_newest_complete_version_is_served(tmp_path):
    for name in ("9", "10", "11", "latest", ".staging-3"):
        (tmp_path / name).mkdir()
        if name != "11":
            (tmp_path / name / "saved_model.pb").touch()
    for base, expected in ((tmp_path, "10"), (tmp_path / "9", "9")):
        assert newest_version(f"{base}/") == str(tmp_path / expected)
