"""A folder of scans on the command line: one bad case, the table, the pictures, and what is never overwritten."""

import csv
import shutil

import nibabel as nib
import numpy as np
import pytest

from pipelines.cli import main
from tests.serving.toy import MODEL


@pytest.fixture
def folder(scan, tmp_path):
    """Two sound scans, one of them with a single bright block of 4×4×2 voxels, and a damaged one."""
    folder = tmp_path / "scans"
    folder.mkdir()
    source = nib.load(scan)
    stored = np.full(source.shape, -1000, np.int16)
    stored[4:8, 12:16, 2:4] = 200
    nib.save(nib.Nifti1Image(stored, source.affine), folder / "block.nii.gz")
    shutil.copyfile(scan, folder / "noise.nii.gz")
    (folder / "broken.nii.gz").write_bytes(scan.read_bytes()[:-20])
    (folder / "readme.txt").touch()
    return folder


def predict(server, folder, output, *more):
    """Run `predict`; the message it ends with, or None."""
    try:
        main(["predict", str(folder), "-o", str(output), "--server", server, "--model", MODEL, *map(str, more)])
    except SystemExit as ended:
        return ended.code
    return None


def table(output):
    with (output / "summary.csv").open(newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def test_a_bad_case_does_not_stop_the_others(server, folder, tmp_path, capsys):
    output = tmp_path / "masks"
    told = predict(server, folder, output, "--preview", "--probability")
    assert told.startswith("error: 1 of 3 scans failed: broken;")
    assert "2 of 3 scans segmented" in capsys.readouterr().out
    rows = table(output)
    assert "broken.nii.gz" in rows["broken"]["error"]
    mask = np.asarray(nib.load(output / "block_mask.nii.gz").dataobj)
    voxel_ml = abs(np.linalg.det(nib.load(folder / "block.nii.gz").affine[:3, :3])) / 1000
    found = rows["block"]
    assert float(found["lesion_ml"]) == pytest.approx(mask.sum() * voxel_ml, abs=1e-3)
    assert float(found["lesion_percent"]) == pytest.approx(100 * mask.mean(), abs=1e-3)
    assert (found["slices_affected"], found["slices"], found["model_version"]) == ("2", "7", "12")
    assert sorted(path.name for path in output.iterdir()) == [
        *("block.png", "block_mask.nii.gz", "block_probability.nii.gz"),
        *("noise.png", "noise_mask.nii.gz", "noise_probability.nii.gz", "summary.csv"),
    ]
    assert (output / "block.png").read_bytes().startswith(b"\x89PNG")


def test_small_lesions_are_left_out_of_mask_and_table(server, folder, tmp_path):
    predict(server, folder, tmp_path / "all")
    ml = float(table(tmp_path / "all")["block"]["lesion_ml"])
    predict(server, folder, tmp_path / "large", "--min-lesion-ml", ml + 0.01)
    assert float(table(tmp_path / "large")["block"]["lesion_ml"]) == 0
    assert not np.asarray(nib.load(tmp_path / "large" / "block_mask.nii.gz").dataobj).any()


def test_nothing_is_overwritten_and_all_that_would_be_is_counted(server, folder, tmp_path):
    output = tmp_path / "masks"
    output.mkdir()
    for name in ("block_mask.nii.gz", "noise_mask.nii.gz"):
        (output / name).write_bytes(b"precious")
    told = predict(server, folder, output)
    assert told.startswith("error: 2 problems: ")
    assert not (output / "summary.csv").exists()
    assert (output / "block_mask.nii.gz").read_bytes() == b"precious"
    assert "broken" in predict(server, folder, output, "--force")
    assert nib.load(output / "block_mask.nii.gz").shape == (20, 24, 7)


def test_a_server_that_is_down_is_told_for_every_case(folder, tmp_path):
    told = predict("127.0.0.1:1", folder, tmp_path / "masks", "--timeout", "0.5")
    assert told.startswith("error: 3 of 3 scans failed")
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["summary.csv"]


def test_useless_folders_are_told(server, folder, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no scans here" in predict(server, tmp_path / "empty", tmp_path / "out")
    assert "each case gets its own file" in predict(server, folder, tmp_path / "out", "--preview", "a.png")
    shutil.copyfile(folder / "block.nii.gz", folder / "block.nii")
    assert "has the same name as" in predict(server, folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_segmentation_needs_a_dicom_series(server, scan, tmp_path):
    told = predict(server, scan, tmp_path / "mask.nii.gz", "--dicom-seg", tmp_path / "seg.dcm")
    assert "refers to a DICOM series" in told
