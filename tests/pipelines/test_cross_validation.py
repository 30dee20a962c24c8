"""The cross-validation pipeline: its package, and a run on a tiny cohort."""

import csv
import subprocess
import sys

import pytest
import yaml
from kfp import compiler

from pipelines.cross_validation import cross_validation

RUN = """
import sys
from kfp import local
from pipelines.cross_validation import cross_validation
local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=sys.argv[1])
cross_validation(source="phantom:4", folds=3, epochs=1, image_size=32)
"""


def test_the_package_loops_over_the_folds_and_collects_the_evaluations(tmp_path):
    compiler.Compiler().compile(cross_validation, str(tmp_path / "package.yaml"))
    package = next(yaml.safe_load_all((tmp_path / "package.yaml").read_text()))
    tasks = package["root"]["dag"]["tasks"]
    steps = {"check-parameters", "identify", "ingest", "validate", "require-valid", "slice", "assign-folds"}
    assert set(tasks) == steps | {"for-loop-1", "summarize-folds"}
    assert tasks["for-loop-1"]["parameterIterator"]["items"]["inputParameter"].startswith("pipelinechannel--assign")
    assert tasks["for-loop-1"]["taskInfo"]["name"] == "Folds"
    assert set(package["components"]["comp-for-loop-1"]["dag"]["tasks"]) == {"select-fold", "train", "evaluate"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_case_is_tested_once_in_its_patients_fold(tmp_path):
    done = subprocess.run([sys.executable, "-c", RUN, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (table,) = tmp_path.glob("*/summarize-folds/table/cases.csv")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    (cases,) = tmp_path.glob("*/ingest/cases/cases.csv")
    with cases.open(newline="") as file:
        ingested = {row["case_id"]: row["patient_id"] for row in csv.DictReader(file)}
    assert sorted(row["case_id"] for row in rows) == sorted(ingested)
    folds_of_patient = {(row["patient_id"], row["fold"]) for row in rows}
    assert len(folds_of_patient) == len(set(ingested.values()))
    (report,) = tmp_path.glob("*/summarize-folds/report")
    assert "over 3 folds" in report.read_text()
