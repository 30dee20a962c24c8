"""`lung-ct run` on a cohort in a bucket."""

import json
import re
import subprocess
import sys

import pytest

from components.ct.phantom import write_cohort
from components.storage.gcs import upload_folder
from tests.storage.gcs_server import BUCKET, gcs, gcs_server

__all__ = ["gcs", "gcs_server"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_cohort_in_a_bucket_runs_through_the_pipeline(gcs, tmp_path):
    write_cohort(tmp_path / "cohort", 4, 0)
    upload_folder(tmp_path / "cohort", f"gs://{BUCKET}/phantom")
    parameters = [f"source=gs://{BUCKET}/phantom", "epochs=1", "image_size=32", "min_dice=0"]
    command = [sys.executable, "-m", "pipelines.cli", "run", "--runs", str(tmp_path / "runs"), *parameters]
    done = subprocess.run(command, capture_output=True, text=True, timeout=880)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / "runs" / "latest" / "summary.json").read_text())
    assert summary["source"] == f"gs://{BUCKET}/phantom"
    assert summary["verdict"] == "pass"
    progress = r"gs://hospital/phantom: \d+ objects: [\d,.]+ of "
    assert re.search(progress, done.stdout), done.stdout
