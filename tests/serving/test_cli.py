"""`lung-ct predict` and `serve` with real processes, files and servers."""

import signal
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from pipelines.cli import main
from tests.serving.conftest import COMMAND, run_serve
from tests.serving.toy import MODEL, THRESHOLD


def predict(*arguments):
    """Run `predict` in this process; return the exit status or message."""
    try:
        main(["predict", "--model", MODEL, *map(str, arguments)])
    except SystemExit as error:
        return error.code
    return 0


def test_the_mask_has_the_shape_and_affine_of_the_scan(server, scan, tmp_path, capsys):
    mask, probability = tmp_path / "mask.nii.gz", tmp_path / "probability.nii.gz"
    assert predict(scan, "-o", mask, "--probability", probability, "--server", server) == 0
    mask_image, probability_image, source = nib.load(mask), nib.load(probability), nib.load(scan)
    assert mask_image.shape == probability_image.shape == source.shape
    np.testing.assert_array_equal(mask_image.affine, probability_image.affine)
    np.testing.assert_allclose(mask_image.affine, source.affine, atol=1e-5)
    assert mask_image.get_data_dtype() == np.uint8
    assert probability_image.get_data_dtype() == np.float32
    voxels = np.asarray(mask_image.dataobj)
    np.testing.assert_array_equal(voxels, probability_image.get_fdata() >= THRESHOLD)
    ml = voxels.sum() * abs(np.linalg.det(source.affine[:3, :3])) / 1000
    assert f"{ml:.1f} mL of lesion in 7 of 7 slices, by toy version 12" in capsys.readouterr().out


def test_a_lesion_is_found_at_its_position_in_the_scan(server, scan, tmp_path):
    source = nib.load(scan)
    stored = np.full(source.shape, -1000, np.int16)
    stored[2:6, 15:22, 1:3] = 200
    nib.save(nib.Nifti1Image(stored, source.affine), scan)
    mask = tmp_path / "mask.nii"
    assert predict(scan, "-o", mask, "--server", server, "--version", 12) == 0
    lesion = np.argwhere(np.asarray(nib.load(mask).dataobj))
    np.testing.assert_allclose(lesion.mean(axis=0), [3.5, 18, 1.5], atol=0.5)


def test_an_existing_output_is_kept_without_force(server, scan, tmp_path):
    mask = tmp_path / "mask.nii.gz"
    mask.write_bytes(b"precious")
    assert "mask.nii.gz: exists already" in predict(scan, "-o", mask, "--server", server)
    assert mask.read_bytes() == b"precious"
    assert predict(scan, "-o", mask, "--server", server, "--force") == 0
    assert nib.load(mask).shape == nib.load(scan).shape


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("mask.png", ".nii.gz or .nii"),
        ("missing/mask.nii.gz", "existing folder"),
        ("scan.nii.gz", "is the scan itself"),
        ("folder.nii", "expected a file name"),
    ],
)
def test_an_invalid_output_is_an_error_before_any_request(scan, tmp_path, output, reason):
    (tmp_path / "folder.nii").mkdir()
    before = scan.read_bytes()
    message = predict(scan, "-o", tmp_path / output, "--server", "127.0.0.1:1", "--force")
    assert str(tmp_path / output) in message
    assert reason in message
    assert scan.read_bytes() == before


def test_two_outputs_with_the_same_name_are_an_error(scan, tmp_path):
    mask = tmp_path / "mask.nii.gz"
    assert "two outputs" in predict(scan, "-o", mask, "--probability", mask, "--server", "127.0.0.1:1")


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", "truncated"])
def test_an_unreadable_scan_leaves_no_output(server, scan, tmp_path, content):
    scan.write_bytes(scan.read_bytes()[:-200] if content == "truncated" else content)
    message = predict(scan, "-o", tmp_path / "mask.nii.gz", "--server", server)
    assert message.startswith(f"error: {scan}: ")
    assert [path.name for path in tmp_path.iterdir()] == ["scan.nii.gz"]


def test_an_unreachable_server_is_a_one_line_error_without_output(scan, tmp_path):
    done = subprocess.run(
        [*COMMAND, "predict", scan, "-o", tmp_path / "mask.nii.gz", "--server", "127.0.0.1:1", "--timeout", "2"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: 127.0.0.1:1 answered UNAVAILABLE: ")
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["scan.nii.gz"]


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_serve_stops_cleanly_on_a_signal(model_folder, scan, tmp_path, number):
    with run_serve("--model-base", model_folder, "--model", MODEL) as (process, address):
        assert predict(scan, "-o", tmp_path / "mask.nii.gz", "--server", address) == 0
        process.send_signal(number)
        assert process.communicate(timeout=60) == ("", "")
        assert process.returncode == 0


def test_serve_without_a_version_is_a_one_line_error(tmp_path):
    done = subprocess.run(
        [*COMMAND, "serve", "--model-base", tmp_path, "--port", "0"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: {tmp_path}: no model version here")
    assert "Traceback" not in done.stderr


def test_help_does_not_import_tensorflow():
    code = "import sys, pipelines.cli as c\ntry: c.main(['serve', '-h'])\nexcept SystemExit: pass\n"
    done = subprocess.run(
        [sys.executable, "-c", code + "sys.exit('tensorflow' in sys.modules)"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "--model-base DIR" in done.stdout
