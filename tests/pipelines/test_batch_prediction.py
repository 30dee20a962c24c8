"""The batch prediction pipeline as it runs on one machine, in real subprocesses."""

import csv
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from kfp import compiler, dsl

from components.plan_parts.component import plan_parts
from components.plan_parts.plan import divide_scans, read_part
from components.predict.batch import ModelEndpoint, predict_part
from components.runtime.errors import InputError
from pipelines.batch_prediction import batch_prediction
from pipelines.local.runs import run_pipeline
from tests.serving.conftest import model_folder, scan, server  # noqa: F401 (fixtures)
from tests.serving.toy import MODEL
from tests.storage.gcs_server import BUCKET, gcs, gcs_server  # noqa: F401 (fixtures)


@pytest.fixture
def source(scan, tmp_path) -> Path:  # noqa: F811
    """Three scans, one of them damaged."""
    folder = tmp_path / "source"
    folder.mkdir()
    shutil.copyfile(scan, folder / "a.nii.gz")
    shutil.copyfile(scan, folder / "b.nii.gz")
    (folder / "c.nii.gz").write_bytes(scan.read_bytes()[:-9])
    (folder / "notes.txt").touch()
    return folder


def test_scans_are_divided_round_robin_and_no_part_is_empty(source):
    assert divide_scans(str(source), 2) == [["a.nii.gz", "c.nii.gz"], ["b.nii.gz"]]
    assert len(divide_scans(str(source), 9)) == 3
    with pytest.raises(InputError, match="missing: "):
        divide_scans(str(source / "missing"), 2)


def test_no_parameter_grows_with_the_number_of_scans(tmp_path):
    """Kubeflow's driver passes all parameters of a task as one argument of at most 131,071 bytes (driver.go)."""
    names = [f"{number:064x}.nii.gz" for number in range(10_000)]
    numbers, plans = {}, {}
    for count in (10, 10_000):
        source = tmp_path / str(count)
        source.mkdir()
        for name in names[:count]:
            (source / name).touch()
        plans[count] = dsl.Artifact(uri=str(tmp_path / f"plan_{count}"))
        numbers[count] = plan_parts.python_func(source=str(source), plan=plans[count], parts=4)
    assert numbers == {10: [1, 2, 3, 4], 10_000: [1, 2, 3, 4]}
    planned = [read_part(Path(plans[10_000].path), number) for number in numbers[10_000]]
    assert planned[0][:2] == [names[0], names[4]]
    assert sorted(name for part in planned for name in part) == names


def test_the_parts_are_passed_as_numbers_and_their_names_in_an_artifact(tmp_path):
    compiler.Compiler().compile(batch_prediction, str(tmp_path / "package.yaml"))
    spec = next(yaml.safe_load_all((tmp_path / "package.yaml").read_text()))
    outputs = spec["components"]["comp-plan-parts"]["outputDefinitions"]
    assert {name: output["parameterType"] for name, output in outputs["parameters"].items()} == {"Output": "LIST"}
    assert set(outputs["artifacts"]) == {"plan"}
    (task,) = spec["components"]["comp-for-loop-1"]["dag"]["tasks"].values()
    (from_loop,) = [name for name, given in task["inputs"]["parameters"].items() if "loop-item" in str(given)]
    assert spec["components"]["comp-predict"]["inputDefinitions"]["parameters"][from_loop]["parameterType"] == (
        "NUMBER_INTEGER"
    )


def test_a_server_and_a_version_folder_predict_the_same_masks(server, model_folder, source, tmp_path):  # noqa: F811
    masks = []
    for name, endpoint in {
        "server": ModelEndpoint(MODEL, server),
        "model base": ModelEndpoint(MODEL, model=str(model_folder)),
        "version": ModelEndpoint(MODEL, model=str(model_folder / "12")),
    }.items():
        good, bad = predict_part(str(source), ["a.nii.gz", "c.nii.gz"], endpoint, tmp_path / name, 0.0)
        assert (good.case, good.error, good.model_version) == ("a", "", 12)
        assert "c.nii.gz" in bad.error
        masks.append(np.asarray(nib.load(tmp_path / name / "a_mask.nii.gz").dataobj))
    np.testing.assert_array_equal(masks[0], masks[1])
    np.testing.assert_array_equal(masks[0], masks[2])


def test_scans_and_versions_may_be_in_cloud_storage(model_folder, source, gcs, tmp_path):  # noqa: F811
    for name in ("a.nii.gz", "b.nii.gz"):
        gcs.put(f"scans/{name}", (source / name).read_bytes())
    for path in (file for file in (model_folder / "12").rglob("*") if file.is_file()):
        gcs.put(f"models/toy/12/{path.relative_to(model_folder / '12')}", path.read_bytes())
    gcs.put("models/toy/13/variables/half", b"an unfinished upload")
    scans, endpoint = f"gs://{BUCKET}/scans", ModelEndpoint(MODEL, model=f"gs://{BUCKET}/models/toy")
    assert divide_scans(scans, 2) == [["a.nii.gz"], ["b.nii.gz"]]
    (row,) = predict_part(scans, ["b.nii.gz"], endpoint, tmp_path / "out", 0.0)
    assert (row.case, row.error, row.model_version) == ("b", "", 12)


def test_a_part_whose_scans_all_fail_is_an_error(server, source, tmp_path):  # noqa: F811
    with pytest.raises(InputError, match=r"every scan failed, 1 .*c\.nii\.gz"):
        predict_part(str(source), ["c.nii.gz"], ModelEndpoint(MODEL, server), tmp_path / "out", 0.0)


def test_the_pipeline_compiles(tmp_path):
    compiler.Compiler().compile(batch_prediction, str(tmp_path / "batch_prediction.yaml"))
    assert "parallelism" not in (tmp_path / "batch_prediction.yaml").read_text()


@pytest.mark.slow
def test_the_pipeline_leaves_masks_a_table_and_a_gallery(model_folder, source, tmp_path):  # noqa: F811
    given = {"source": str(source), "model": str(model_folder), "model_name": MODEL, "parts": 2}
    summary = run_pipeline("batch-prediction", tmp_path / "runs", given)
    results = Path(summary["table"]).parent
    assert sorted(path.name for path in (results / "masks").iterdir()) == ["a_mask.nii.gz", "b_mask.nii.gz"]
    with (results / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == ["a", "b", "c"]
    assert float(rows[0]["lesion_ml"]) > 0
    assert rows[2]["error"]
    assert summary["failed_scans"] == [f"c: {rows[2]['error']}"]
    page = Path(summary["report"]).read_text()
    assert page.count("data:image/webp;base64,") == 2
    assert "3 scans: lesion in 2, 1 failed" in page
