"""`lung-ct predict` and `serve` with real processes, files and servers."""

import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import nibabel as nib
import numpy as np
import pytest
import trustme

from pipelines.cli import main
from serving.tls import ServerTls
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
        ("folder.nii/", "expected a file name"),
        ("scan.nii.gz/m.nii.gz", "existing folder"),
        ("x" * 249 + ".nii.gz", "File name too long"),
        ("肺" * 83 + ".nii.gz", "File name too long"),
        ("/proc/m.nii.gz", "No such file or directory"),
        ("/proc/self/fd/m.nii.gz", "No such file or directory"),
        ("/sys/m.nii.gz", "m.nii.gz: cannot be written"),
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


@pytest.mark.parametrize("name", ["x" * 248 + ".nii.gz", "ü" * 124 + ".nii.gz", "肺" * 82 + ".nii.gz"])
def test_a_mask_may_have_every_name_that_the_file_system_takes(server, scan, tmp_path, name):
    assert predict(scan, "-o", tmp_path / name, "--server", server) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"scan.nii.gz", name}


def run_predict(scan, target, *options, timeout=60):
    """Run `predict` as a process; return its exit status and its lines on stderr."""
    command = [*COMMAND, "predict", scan, "-o", scan.with_name("mask.nii.gz"), "--server", target, *options]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=timeout)
    return done.returncode, done.stderr.splitlines()


@pytest.fixture(scope="module")
def tls_ports(tmp_path_factory):
    """The folder of certificates, and the addresses of gRPC servers: plaintext, TLS, with client certificates."""
    folder = tmp_path_factory.mktemp("certificates")
    ours, theirs = trustme.CA(), trustme.CA()
    for name, issued in (
        ("server", ours.issue_cert("127.0.0.1")),
        ("elsewhere", ours.issue_cert("hospital.example")),
        ("stranger", theirs.issue_cert("doctor@ward")),
    ):
        issued.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
        issued.private_key_pem.write_to_path(folder / f"{name}.key")
    ours.cert_pem.write_to_path(folder / "ca.pem")
    theirs.cert_pem.write_to_path(folder / "other-ca.pem")
    kinds = {
        "plaintext": None,
        "tls": ServerTls(folder / "server.pem", folder / "server.key"),
        "mutual": ServerTls(folder / "server.pem", folder / "server.key", folder / "ca.pem"),
        "elsewhere": ServerTls(folder / "elsewhere.pem", folder / "elsewhere.key"),
    }
    servers, ports = [], {}
    for kind, tls in kinds.items():
        servers.append(grpc.server(ThreadPoolExecutor(1)))
        add = servers[-1].add_insecure_port if tls is None else servers[-1].add_secure_port
        ports[kind] = f"127.0.0.1:{add('127.0.0.1:0', *([] if tls is None else [tls.for_grpc()]))}"
        servers[-1].start()
    yield folder, ports
    for each in servers:
        each.stop(0)


@pytest.mark.parametrize(
    ("kind", "options", "reason"),
    [
        ("tls", [], r"server requires TLS \(--tls"),
        ("mutual", [], r"server requires TLS .* and a client certificate \(--client-certificate"),
        ("mutual", ["--ca=ca"], r"server requires a client certificate \(--client-certificate"),
        (
            "mutual",
            ["--ca=ca", "--client-certificate=stranger", "--client-key=stranger.key"],
            "rejects the client certificate .*stranger.pem",
        ),
        ("plaintext", ["--ca=ca"], "port does not use TLS.*plaintext"),
        ("tls", ["--ca=other-ca"], "check the CA"),
        ("elsewhere", ["--ca=ca"], "check the CA and certificates"),
    ],
)
def test_a_connection_that_lacks_tls_or_a_certificate_is_told_so_in_one_line(scan, tls_ports, kind, options, reason):
    folder, ports = tls_ports
    files = [f"{option.replace('=', f'={folder}/')}{'' if option.endswith('.key') else '.pem'}" for option in options]
    status, lines = run_predict(scan, ports[kind], *files)
    assert status == 1
    assert len(lines) == 1
    assert re.search(f"^error: {ports[kind]} answered UNAVAILABLE: .*{reason}", lines[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_serve_stops_cleanly_on_a_signal(model_folder, scan, tmp_path, number):
    with run_serve("--model-base", model_folder, "--model", MODEL) as (process, address):
        assert predict(scan, "-o", tmp_path / "mask.nii.gz", "--server", address) == 0
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
        assert stdout == ""
        assert re.fullmatch("(.*: has no manifest: .*\n)*", stderr)
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
