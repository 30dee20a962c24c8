"""Whole training runs with either verdict, checked by their files."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from components.ct.phantom import write_cohort
from components.runtime.files import sha256_of
from components.storage.gcs import upload_folder
from tests.register_model.registry_server import run_registry
from tests.storage.gcs_server import BUCKET, gcs, gcs_server

__all__ = ["gcs", "gcs_server"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def run(runs: Path, *parameters: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines.cli", "run", "--runs", str(runs), *parameters]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "80"})


def summary(runs: Path) -> dict:
    return json.loads((runs / "latest" / "summary.json").read_text())


SMALL = ["source=phantom:5", "epochs=1", "image_size=32"]


def test_a_passed_gate_publishes_a_version_that_segments_a_scan_on_its_grid(tmp_path):
    with run_registry() as registry:
        done = run(tmp_path, *SMALL, "min_dice=0", "view_3d=true", f"model_registry={registry.url}")
    assert done.returncode == 0, done.stdout + done.stderr
    result = summary(tmp_path)
    assert result["verdict"] == "pass"
    assert np.isfinite(result["test_dice"])
    version = Path(result["model_version_dir"])
    assert version.name == "1"
    assert version.parent.name == "lung-infection"
    assert (version / "saved_model.pb").is_file()
    assert (version / "assets.extra" / "tf_serving_warmup_requests").is_file()
    assert Path(result["report"]).read_text().lstrip().lower().startswith("<!doctype html>")
    mask_path = Path(result["predicted_mask"])
    (scan_path,) = (tmp_path / "latest" / "artifacts").glob(f"*/ingest/cases/scans/{mask_path.name}")
    mask, scan = nib.load(mask_path), nib.load(scan_path)
    assert mask.shape == scan.shape
    np.testing.assert_allclose(mask.affine, scan.affine)
    steps = [
        "check-parameters",
        "identify",
        "ingest",
        "validate",
        "require-valid",
        "slice",
        "train",
        "evaluate",
        "export",
    ]
    # kfp runs view-3d before or after export.
    assert [step for step in result["seconds"] if step != "view-3d"] == [*steps, "register-model", "predict"]
    assert "Worst test case in 3-D" in (tmp_path / "latest" / "reports" / "view-3d.html").read_text()
    (identified,) = (tmp_path / "latest" / "artifacts").glob("*/identify/executor_output.json")
    (ingested,) = (tmp_path / "latest" / "artifacts").glob("*/ingest/executor_output.json")
    digest = json.loads(identified.read_text())["parameterValues"]["digest"]
    assert json.loads(ingested.read_text())["artifacts"]["cases"]["artifacts"][0]["metadata"]["source_digest"] == digest

    (exported,) = (tmp_path / "latest" / "artifacts").glob("*/export/executor_output.json")
    (model,) = json.loads(exported.read_text())["artifacts"]["version"]["artifacts"]
    assert (model["uri"], model["metadata"]["version"]) == (str(version), "1")
    assert [artifact["uri"] for artifact in registry.artifacts] == [str(version)]
    registered = registry.properties()
    assert registered["test_dice"] == pytest.approx(result["test_dice"])
    assert (registered["verdict"], registered["test_cases"]) == ("pass", 1)
    digest = sha256_of(version / "assets.extra" / "MANIFEST.sha256")
    assert registered["manifest_sha256"] == model["metadata"]["manifest_sha256"] == digest


def test_a_failed_gate_publishes_nothing_and_reports_the_reasons(tmp_path):
    done = run(tmp_path, *SMALL, "min_dice=0.99")
    assert done.returncode == 0, done.stdout + done.stderr
    result = summary(tmp_path)
    assert result["verdict"] == "fail"
    assert result["model_version_dir"] is None
    assert result["predicted_mask"] is None
    assert result["reasons"]
    assert all(reason in done.stdout for reason in result["reasons"])
    assert not (tmp_path / "latest" / "models").exists()
    assert not list(tmp_path.rglob("saved_model.pb"))
    assert "view-3d" not in result["seconds"]  # off by default


@pytest.mark.parametrize(
    ("parameters", "fact"),
    [
        (["source=no/such/folder"], "no/such/folder"),
        (["source=phantom:2"], "at least 3"),
        (["source=phantom:5", "image_size=100"], "multiple of 16"),
    ],
)
def test_an_input_error_exits_with_one_line(tmp_path, parameters, fact):
    done = run(tmp_path, *parameters)
    assert done.returncode == 1
    (message,) = done.stderr.strip().splitlines()
    assert message.startswith("error: ")
    assert fact in message
    assert "Traceback" not in done.stdout


@pytest.mark.timeout(900)
def test_a_cohort_in_a_bucket_runs_through_the_pipeline_and_what_it_leaves_out_is_named(gcs, tmp_path):
    write_cohort(tmp_path / "cohort", 6, 0)
    damaged = sorted((tmp_path / "cohort" / "scans").iterdir())[0]
    labels = sorted((tmp_path / "cohort").glob("*mask*/*"))[1]
    damaged.write_bytes(b"damaged")
    mask = nib.load(labels)
    nib.save(nib.Nifti1Image(3 * np.asarray(mask.dataobj), mask.affine), labels)
    (tmp_path / "cohort" / "scans" / "other.mha").touch()
    upload_folder(tmp_path / "cohort", f"gs://{BUCKET}/phantom")
    skip = ("epochs=1", "image_size=32", "min_dice=0", "on_invalid=skip")
    done = run(tmp_path, f"source=gs://{BUCKET}/phantom", *skip)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (summary(tmp_path)["source"], summary(tmp_path)["verdict"]) == (f"gs://{BUCKET}/phantom", "pass")
    assert "register-model" not in summary(tmp_path)["seconds"]  # off by default
    unreadable, unused, other_labels = summary(tmp_path)["left_out"]
    assert re.match(rf"case \w+: gs://{BUCKET}/phantom/scans/{damaged.name}: ", unreadable)
    assert unused.startswith("not used: scans/other.mha (")
    assert re.match(r"case \w+: the mask has values 0 3; expected 0 and 1 ", other_labels)
    assert all(line in done.stdout for line in (unreadable, unused, other_labels))
    assert re.search(r"gs://hospital/phantom: \d+ objects: [\d,.]+ of ", done.stdout), done.stdout
