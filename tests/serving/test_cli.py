"""The command line as a user meets it: real processes, files and a server."""

import signal
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from serving.cli import main
from tests.serving.conftest import COMMAND
from tests.serving.toy import MODEL, THRESHOLD


def predict(*arguments):
    """Run `predict` in this process; return the exit status or message."""
    try:
        main(["predict", "--model", MODEL, *map(str, arguments)])
    except SystemExit as ended:
        return ended.code
    return 0


def test_the_mask_has_the_shape_and_affine_of_the_scan(server, scan, tmp_path, capsys):
    mask, probability = tmp_path / "mask.nii.gz", tmp_path / "probability.nii.gz"
    assert predict(scan, "-o", mask, "--probability", probability, "--server", server) == 0
    written, likely, source = nib.load(mask), nib.load(probability), nib.load(scan)
    assert written.shape == likely.shape == source.shape
    np.testing.assert_array_equal(written.affine, likely.affine)
    np.testing.assert_allclose(written.affine, source.affine, atol=1e-5)
    assert written.get_data_dtype() == np.uint8
    assert likely.get_data_dtype() == np.float32
    voxels = np.asarray(written.dataobj)
    np.testing.assert_array_equal(voxels, likely.get_fdata() >= THRESHOLD)
    ml = voxels.sum() * abs(np.linalg.det(source.affine[:3, :3])) / 1000
    assert f"{ml:.1f} mL of lesion in 7 of 7 slices, by toy version 12" in capsys.readouterr().out


def test_a_lesion_lies_where_the_scan_has_it(server, scan, tmp_path):
    source = nib.load(scan)
    stored = np.full(source.shape, -1000, np.int16)
    stored[2:6, 15:22, 1:3] = 200
    nib.save(nib.Nifti1Image(stored, source.affine), scan)
    mask = tmp_path / "mask.nii"
    assert predict(scan, "-o", mask, "--server", server, "--version", 12) == 0
    found = np.argwhere(np.asarray(nib.load(mask).dataobj))
    np.testing.assert_allclose(found.mean(axis=0), [3.5, 18, 1.5], atol=0.5)


def test_an_output_that_exists_is_kept_unless_forced(server, scan, tmp_path):
    mask = tmp_path / "mask.nii.gz"
    mask.write_bytes(b"precious")
    assert "mask.nii.gz: exists already" in predict(scan, "-o", mask, "--server", server)
    assert mask.read_bytes() == b"precious"
    assert predict(scan, "-o", mask, "--server", server, "--force") == 0
    assert nib.load(mask).shape == nib.load(scan).shape


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("mask.png", "ends in .nii.gz or .nii"),
        ("nowhere/mask.nii.gz", "in a folder that exists"),
        ("scan.nii.gz", "is the scan itself"),
        ("folder.nii", "expected a file's name"),
    ],
)
def test_a_useless_output_is_told_before_anything_is_sent(scan, tmp_path, output, words):
    (tmp_path / "folder.nii").mkdir()
    before = scan.read_bytes()
    assert words in predict(scan, "-o", tmp_path / output, "--server", "127.0.0.1:1", "--force")
    assert scan.read_bytes() == before


def test_one_name_for_two_outputs_is_refused(scan, tmp_path):
    mask = tmp_path / "mask.nii.gz"
    assert "two outputs" in predict(scan, "-o", mask, "--probability", mask, "--server", "127.0.0.1:1")


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", "truncated"])
def test_a_scan_that_cannot_be_read_leaves_no_output(server, scan, tmp_path, content):
    scan.write_bytes(scan.read_bytes()[:-200] if content == "truncated" else content)
    told = predict(scan, "-o", tmp_path / "mask.nii.gz", "--server", server)
    assert told.startswith(f"error: {scan}: ")
    assert [path.name for path in tmp_path.iterdir()] == ["scan.nii.gz"]


def test_a_server_that_is_down_ends_in_one_line_and_no_output(scan, tmp_path):
    ended = subprocess.run(
        [*COMMAND, "predict", scan, "-o", tmp_path / "mask.nii.gz", "--server", "127.0.0.1:1", "--timeout", "2"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: 127.0.0.1:1 answered UNAVAILABLE: ")
    assert ended.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["scan.nii.gz"]


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_serve_answers_and_stops_cleanly_on_a_signal(server_process, scan, tmp_path, number):
    process, address = server_process
    assert predict(scan, "-o", tmp_path / "mask.nii.gz", "--server", address) == 0
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")


def test_serve_without_a_version_ends_in_one_line(tmp_path):
    ended = subprocess.run(
        [*COMMAND, "serve", "--model-base", tmp_path, "--port", "0"], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith(f"error: {tmp_path}: no model version here")
    assert "Traceback" not in ended.stderr


def test_help_is_there_without_tensorflow():
    code = "import sys, serving.cli as c\ntry: c.main(['serve', '-h'])\nexcept SystemExit: pass\n"
    ended = subprocess.run(
        [sys.executable, "-c", code + "sys.exit('tensorflow' in sys.modules)"], capture_output=True, text=True
    )
    assert ended.returncode == 0
    assert "--model-base DIR" in ended.stdout
