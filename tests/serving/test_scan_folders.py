"""`lung-ct predict` on a folder: a damaged scan, the summary, the previews, and existing files."""

import csv
import shutil

import nibabel as nib
import numpy as np
import pytest

from pipelines.cli import main
from tests.serving.toy import MODEL


@pytest.fixture
def folder(scan, tmp_path):
    """A scan with one bright block of 4×4×2 voxels, a scan of noise, and a damaged scan."""
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


def predict(server, source, output, *options):
    """Run `lung-ct predict` and return its error message, or None."""
    try:
        main(["predict", str(source), "-o", str(output), "--server", server, "--model", MODEL, *map(str, options)])
    except SystemExit as error:
        return error.code
    return None


def read_summary(output):
    with (output / "summary.csv").open(newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def test_a_damaged_scan_does_not_stop_the_others(server, folder, tmp_path, capsys):
    output = tmp_path / "masks"
    message = predict(server, folder, output, "--preview", "--probability")
    assert message.startswith("error: 1 of 3 scans failed: broken;")
    assert "2 of 3 scans segmented" in capsys.readouterr().out
    rows = read_summary(output)
    assert "broken.nii.gz" in rows["broken"]["error"]
    mask = np.asarray(nib.load(output / "block_mask.nii.gz").dataobj)
    voxel_ml = abs(np.linalg.det(nib.load(folder / "block.nii.gz").affine[:3, :3])) / 1000
    row = rows["block"]
    assert float(row["lesion_ml"]) == pytest.approx(mask.sum() * voxel_ml, abs=1e-3)
    assert float(row["lesion_percent"]) == pytest.approx(100 * mask.mean(), abs=1e-3)
    assert (row["slices_affected"], row["slices"], row["model_version"]) == ("2", "7", "12")
    assert sorted(path.name for path in output.iterdir()) == [
        *("block.png", "block_mask.nii.gz", "block_probability.nii.gz"),
        *("noise.png", "noise_mask.nii.gz", "noise_probability.nii.gz", "summary.csv"),
    ]
    assert (output / "block.png").read_bytes().startswith(b"\x89PNG")


def test_small_lesions_are_removed_from_mask_and_summary(server, folder, tmp_path):
    predict(server, folder, tmp_path / "all")
    ml = float(read_summary(tmp_path / "all")["block"]["lesion_ml"])
    predict(server, folder, tmp_path / "large", "--min-lesion-ml", ml + 0.01)
    assert float(read_summary(tmp_path / "large")["block"]["lesion_ml"]) == 0
    assert not np.asarray(nib.load(tmp_path / "large" / "block_mask.nii.gz").dataobj).any()


def test_existing_outputs_are_counted_and_not_overwritten(server, folder, tmp_path):
    output = tmp_path / "masks"
    output.mkdir()
    for name in ("block_mask.nii.gz", "noise_mask.nii.gz"):
        (output / name).write_bytes(b"precious")
    message = predict(server, folder, output)
    assert message.startswith("error: 2 problems: ")
    assert not (output / "summary.csv").exists()
    assert (output / "block_mask.nii.gz").read_bytes() == b"precious"
    assert "broken" in predict(server, folder, output, "--force")
    assert nib.load(output / "block_mask.nii.gz").shape == (20, 24, 7)


def test_a_server_that_is_down_fails_every_case(folder, tmp_path):
    message = predict("127.0.0.1:1", folder, tmp_path / "masks", "--timeout", "0.5")
    assert message.startswith("error: 3 of 3 scans failed")
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["summary.csv"]


def test_folders_without_scans_and_duplicate_cases_are_errors(server, folder, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no scans here" in predict(server, tmp_path / "empty", tmp_path / "out")
    assert "a.png: for a folder" in predict(server, folder, tmp_path / "out", "--preview", "a.png")
    shutil.copyfile(folder / "block.nii.gz", folder / "block.nii")
    assert "has the same name as" in predict(server, folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_segmentation_needs_a_dicom_series(server, scan, tmp_path):
    message = predict(server, scan, tmp_path / "mask.nii.gz", "--dicom-seg", tmp_path / "seg.dcm")
    assert "needs a DICOM series" in message
