"""`lung-ct predict` on a folder: a damaged scan, the summary, the previews, and existing files."""

import os
import shutil
import subprocess

import nibabel as nib
import numpy as np
import pytest

from components.runtime.errors import InputError
from pipelines.cli import main
from serving.client import scans, summary
from serving.client.segmentation import Prediction
from tests.serving.conftest import COMMAND
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
    return {row["case"]: row for row in summary.read_summary(output / "summary.csv")}


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


def test_doubts_about_the_geometry_are_in_the_summary_and_on_the_terminal(server, scan, tmp_path, capsys):
    source = nib.load(scan)
    (tmp_path / "scans").mkdir()
    affine = np.diag([-0.8, 0.8, 12, 1])
    nib.save(nib.Nifti1Image(np.asarray(source.dataobj)[..., None], affine), tmp_path / "scans" / "thick.nii.gz")
    nib.save(nib.Nifti1Image(np.asarray(source.dataobj), np.diag([0.8, 1.6, 1, 1])), tmp_path / "scans" / "flat.nii.gz")
    assert predict(server, tmp_path / "scans", tmp_path / "out").startswith("error: 1 of 2 scans failed: flat;")
    rows = read_summary(tmp_path / "out")
    assert rows["thick"]["notes"] == "slices are 12 mm apart; expected 0.2 to 10 mm; check the spacing"
    assert "ratio of 2" in rows["flat"]["error"]
    mask = nib.load(tmp_path / "out" / "thick_mask.nii.gz")
    assert mask.shape == (*source.shape, 1)
    voxel_ml = 0.8 * 0.8 * 12 / 1000
    assert float(rows["thick"]["lesion_ml"]) == pytest.approx(np.asarray(mask.dataobj).sum() * voxel_ml, abs=1e-3)
    assert predict(server, tmp_path / "scans" / "thick.nii.gz", tmp_path / "mask.nii.gz") is None
    assert capsys.readouterr().out.count("note: slices are 12 mm apart") == 2


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


LONG = {
    "bytes": ("x" * 239, "x" * 248),  # 251 and 260 bytes with _mask.nii.gz; a file name has up to 255
    "multi-byte": ("ü" * 119, "肺" * 82),
}


@pytest.mark.parametrize("kind", LONG)
def test_a_name_that_is_too_long_fails_alone(server, folder, tmp_path, kind):
    for name in LONG[kind]:
        shutil.copyfile(folder / "noise.nii.gz", folder / f"{name}.nii.gz")
    (folder / "broken.nii.gz").unlink()
    message = predict(server, folder, tmp_path / "masks")
    long, too_long = LONG[kind]
    assert message.startswith(f"error: 1 of 4 scans failed: {too_long}; ")
    rows = read_summary(tmp_path / "masks")
    assert "File name too long" in rows[too_long]["error"]
    assert nib.load(tmp_path / "masks" / f"{long}_mask.nii.gz").shape == (20, 24, 7)


@pytest.mark.parametrize("output", ["/proc", "/proc/masks", "{}/file", "{}/file/masks", "{}/" + "m" * 256, "/dev/null"])
def test_a_folder_that_cannot_be_written_is_one_line(folder, tmp_path, output):
    (tmp_path / "file").touch()
    output = output.format(tmp_path)
    message = predict("127.0.0.1:1", folder, output)
    assert message.startswith(f"error: {output}")
    assert message.count("\n") == 0


@pytest.mark.parametrize(
    ("size", "error"),
    [("20k", "1 of 2 scans failed: noise; "), ("4k", "{}/summary.csv: cannot be written (No space left on device)")],
)
def test_a_full_disk_fails_one_scan_after_the_other(server, folder, tmp_path, size, error):
    """20 kB hold the masks, one of the probabilities, and the table twice; 4 kB hold one mask."""
    output = tmp_path / "disk" / "masks"
    output.parent.mkdir()
    (folder / "broken.nii.gz").unlink()
    run = f'mount -t tmpfs -o size={size} none {output.parent} && "$0" "$@"; x=$?; cat {output}/*.csv; exit $x'
    command = ["unshare", "-rm", "sh", "-c", run, *COMMAND, "predict", folder, "-o", output, "--probability"]
    command += ["--server", server, "--model", MODEL]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120)
    if "unshare failed" in done.stderr:
        pytest.skip("user namespaces are not available")
    assert done.returncode == 1
    assert f"error: {error.format(output)}" in done.stderr
    assert "Traceback" not in done.stderr
    assert "cannot be written (No space left on device)" in done.stdout.splitlines()[-1]  # of noise


def test_the_mask_is_kept_where_another_output_fails(scan, tmp_path):
    def predict_and_take_the_name(volume):
        (tmp_path / "p.png").mkdir()
        shape = volume.voxels.shape
        return Prediction(np.ones(shape, np.float32), np.ones(shape, np.uint8), 0.5, 1)

    outputs = scans.OutputFiles(tmp_path / "mask.nii.gz", preview=tmp_path / "p.png")
    with pytest.raises(InputError, match=r"p\.png: cannot be written"):
        scans.segment_scan(predict_and_take_the_name, scans.ScanTask("scan", scan, outputs))
    assert np.asarray(nib.load(outputs.mask).dataobj).all()


def test_no_cell_of_the_summary_is_executed_by_a_spreadsheet(server, folder, tmp_path):
    cases = ["=cmd|' |calc'!A0", "+1+1", "-2", "@SUM(1)", "\t=1", "a;=1+1", "'=1", "a=b-c@d", "＝1+1", "'", "ä b"]
    for case in cases:
        shutil.copyfile(folder / "noise.nii.gz", folder / f"{case}.nii.gz")
    os.rename(folder / "noise.nii.gz", os.fsencode(folder) + b"/\xff.nii.gz")
    predict(server, folder, tmp_path / "masks")
    text = (tmp_path / "masks" / "summary.csv").read_text()
    cells = [cell.strip('"') for line in text.splitlines() for part in line.split(",") for cell in part.split(";")]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "＝"))]
    rows = read_summary(tmp_path / "masks")
    assert rows.keys() == {*cases, "block", "broken", r"\udcff"}
    assert rows["a=b-c@d"]["slices"] == "7"
