"""Rows 44 to 49 of the fault table: servers and clients in separate processes."""

import shutil
import signal
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import grpc
import nibabel as nib
import numpy as np
import pytest
import tensorflow as tf
import trustme
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.client.promotion import promote, rollback
from serving.client.replicas import Replicas
from serving.client.segmentation import SegmentationClient
from serving.versions.labels import VersionLabels
from serving.versions.manifest import write_manifest
from tests.serving.conftest import COMMAND, run_serve, wait_until
from tests.serving.toy import MODEL, SIZE, save_toy_model, toy_probability

SLICES = np.random.default_rng(6).integers(-1400, 400, (4, SIZE, SIZE), np.int16)


def predict_request(slices=SLICES, input_name="slices_hu", signature_name="network", label=""):
    spec = {"name": MODEL, "signature_name": signature_name, **({"version_label": label} if label else {})}
    return predict_pb2.PredictRequest(model_spec=spec, inputs={input_name: tf.make_tensor_proto(slices)})


def statuses(address):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = MODEL
    with grpc.insecure_channel(address) as channel:
        response = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request, timeout=30)
    return {entry.version: entry for entry in response.model_version_status}


def run_predict(*arguments):
    """Run `lung-ct predict` in a process."""
    command = [*COMMAND, "predict", "--model", MODEL, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@contextmanager
def load(address, label="", threads=4):
    """Send requests without pause until the block ends; yield the (version, probability) pairs and the failures."""
    results, failures, stop = [], [], threading.Event()

    def send_requests():
        with grpc.insecure_channel(address) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            while not stop.is_set():
                try:
                    response = stub.Predict(predict_request(label=label), timeout=30)
                    probability = tf.make_ndarray(response.outputs["lesion_probability"])
                    results.append((response.model_spec.version.value, probability))
                except grpc.RpcError as error:
                    failures.append(f"{error.code().name}: {error.details()}")

    clients = [threading.Thread(target=send_requests) for _ in range(threads)]
    for thread in clients:
        thread.start()
    try:
        yield results, failures
    finally:
        stop.set()
        for thread in clients:
            thread.join()


@pytest.fixture
def base(model_folder, tmp_path):
    """A model base with version 3."""
    shutil.copytree(model_folder / "3", tmp_path / "base" / "3")
    return tmp_path / "base"


def test_row_44_a_damaged_new_version_leaves_the_old_one_serving_and_status_has_the_reason(base, model_folder):
    with run_serve("--model-base", base, "--model", MODEL, "--poll", 0.05) as (process, address):
        with load(address) as (results, failures):
            wait_until(lambda: results)
            (base / "4").mkdir()
            (base / "4" / "saved_model.pb").write_bytes(b"no graph")
            wait_until(lambda: 4 in statuses(address) and statuses(address)[4].status.error_message)
            before = len(results)
            wait_until(lambda: len(results) > before)
        assert not failures
        assert {version for version, _ in results} == {3}
        damaged = statuses(address)[4]
        assert damaged.state == get_model_status_pb2.ModelVersionStatus.END
        assert "version 4 cannot be loaded" in damaged.status.error_message
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        assert "not served: version 4 cannot be loaded" in err
        assert process.returncode == 0


def test_row_44_a_server_killed_while_loading_a_version_starts_again(base):
    save_toy_model(base / ".4", gain=0.5)
    with run_serve("--model-base", base, "--model", MODEL, "--poll", 0.01) as (process, address):
        (base / ".4").rename(base / "4")
        # LOADING is short: the signal may also arrive after it.
        wait_until(lambda: 4 in statuses(address))
        process.kill()
        process.wait()
    with run_serve("--model-base", base, "--model", MODEL) as (_, address):
        assert statuses(address)[4].state == get_model_status_pb2.ModelVersionStatus.AVAILABLE


@pytest.fixture(scope="module")
def server_process(model_folder):
    with run_serve("--model-base", model_folder, "--model", MODEL, "--queue", 2, "--batch", 1) as started:
        yield started


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "other"], "answered NOT_FOUND: Servable not found for request: Latest(other)"),
        (["--version", 99], "answered NOT_FOUND: Servable not found for request: Specific(toy, 99)"),
        (["--label", "no"], "answered INVALID_ARGUMENT: Unrecognized servable version label: no"),
    ],
)
def test_row_45_the_client_reports_an_unknown_model_version_or_label(server_process, scan, tmp_path, options, message):
    done = run_predict(scan, "-o", tmp_path / "mask.nii.gz", "--server", server_process[1], *options)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "mask.nii.gz").exists()


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"slices": SLICES[:, :8]}, "INVALID_ARGUMENT", "Expects slices_hu to have shape [?,16,16] but [4,8,16]"),
        ({"slices": SLICES.astype(np.float32)}, "INVALID_ARGUMENT", "to be int16 but float32 is provided"),
        ({"input_name": "images"}, "INVALID_ARGUMENT", "input tensor alias not found in signature: images"),
        ({"signature_name": "no"}, "FAILED_PRECONDITION", 'Serving signature key "no" not found.'),
    ],
)
def test_row_45_errors_of_shape_dtype_input_and_signature_match_tf_serving(server_process, change, code, message):
    with grpc.insecure_channel(server_process[1]) as channel, pytest.raises(grpc.RpcError) as caught:
        prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(predict_request(**change), timeout=30)
    assert caught.value.code().name == code
    assert message in caught.value.details()


def test_row_46_responses_over_four_mebibytes_are_complete(tmp_path):
    save_toy_model(tmp_path / "base" / "1", size=128)
    voxels = np.random.default_rng(7).integers(-1000, 300, (30, 28, 200)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.diag([-1, 1, 2, 1])), tmp_path / "scan.nii.gz")
    with run_serve("--model-base", tmp_path / "base", "--model", MODEL) as (_, address):
        probabilities = []
        for chunk_bytes in (64 << 20, 1 << 20):  # one response of 13 MB, and many of 1 MB
            with SegmentationClient(address, MODEL, chunk_bytes=chunk_bytes) as segmenter:
                probability, _, _ = segmenter.predict_slices(voxels.transpose(2, 1, 0))
                probabilities.append(probability)
    np.testing.assert_array_equal(*probabilities)


def test_row_47_an_unreachable_or_silent_server_is_an_error_within_the_timeout(scan, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for address in ("127.0.0.1:1", f"127.0.0.1:{silent.getsockname()[1]}"):
            started = time.monotonic()
            done = run_predict(scan, "-o", tmp_path / "mask.nii.gz", "--server", address, "--timeout", 2)
            assert time.monotonic() - started < 20
            assert done.returncode == 1
            assert done.stderr.startswith(f"error: {address} answered ")
            assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["scan.nii.gz"]


def test_row_47_a_server_that_hangs_is_an_error_at_the_deadline(server_process, scan, tmp_path):
    process, address = server_process
    process.send_signal(signal.SIGSTOP)
    try:
        done = run_predict(scan, "-o", tmp_path / "mask.nii.gz", "--server", address, "--timeout", 2)
    finally:
        process.send_signal(signal.SIGCONT)
    assert done.returncode == 1
    assert "DEADLINE_EXCEEDED" in done.stderr or "UNAVAILABLE" in done.stderr
    assert not (tmp_path / "mask.nii.gz").exists()
    assert run_predict(scan, "-o", tmp_path / "mask.nii.gz", "--server", address).returncode == 0


def test_row_47_a_full_queue_rejects_requests_and_answers_the_queued_ones(tmp_path):
    save_toy_model(tmp_path / "base" / "1", work=200)
    with (
        run_serve("--model-base", tmp_path / "base", "--model", MODEL, "--queue", 1, "--batch", 1) as (_, address),
        load(address, threads=12) as (results, failures),
    ):
        wait_until(lambda: len(results) >= 10 and failures)
    assert {failure.partition(":")[0] for failure in failures} == {"RESOURCE_EXHAUSTED"}
    for _, probability in results:
        np.testing.assert_allclose(probability, toy_probability(SLICES), atol=1e-6)


@pytest.mark.slow
def test_row_47_sigterm_answers_every_queued_request_however_long_it_takes(tmp_path):
    save_toy_model(tmp_path / "base" / "1", work=1000)  # half a second each: 128 take longer than any usual grace
    answers, serve = [], run_serve("--model-base", tmp_path / "base", "--model", MODEL, "--batch", 1)
    with serve as (process, address), grpc.insecure_channel(address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        calls = [stub.Predict.future(predict_request(), timeout=600) for _ in range(100)]
        calls[0].result()
        process.send_signal(signal.SIGTERM)
        answers = [call.exception() for call in calls]
        assert process.wait(60) == 0
    assert answers == [None] * 100


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    ca, other_ca = trustme.CA(), trustme.CA()
    issued = ca.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(folder / "server.pem")
    issued.private_key_pem.write_to_path(folder / "server.key")
    ca.cert_pem.write_to_path(folder / "ca.pem")
    other_ca.cert_pem.write_to_path(folder / "other_ca.pem")
    return folder


def test_row_48_an_untrusted_server_certificate_is_an_error(model_folder, scan, certificates, tmp_path):
    tls = ["--tls-certificate", certificates / "server.pem", "--tls-key", certificates / "server.key"]
    mask, ca, other_ca = tmp_path / "mask.nii.gz", certificates / "ca.pem", certificates / "other_ca.pem"
    with run_serve("--model-base", model_folder, "--model", MODEL, *tls) as (_, address):
        untrusted = run_predict(scan, "-o", mask, "--server", address, "--ca", other_ca, "--timeout", 2)
        assert untrusted.returncode == 1
        assert "TLS connection failed" in untrusted.stderr
        assert not mask.exists()
        assert run_predict(scan, "-o", mask, "--server", address, "--ca", ca).returncode == 0


def test_row_48_the_client_sends_only_tls_handshakes(scan, certificates, tmp_path):
    first_bytes = []

    def listen(server):
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                first_bytes.append(connection.recv(1))  # then close, like a server without TLS

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=listen, args=(server,), daemon=True).start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        done = run_predict(
            scan, "-o", tmp_path / "m.nii.gz", "--server", address, "--ca", certificates / "ca.pem", "--timeout", 3
        )
    assert done.returncode == 1
    assert set(first_bytes) == {b"\x16"}  # the content type of a TLS handshake (RFC 8446, 5.1); HTTP/2 begins with "P"


def test_row_49_promotions_and_rollbacks_drop_no_request(model_folder, tmp_path):
    base = tmp_path / "base"
    gains = {3: 1.0, 12: 0.5}
    for number in gains:
        shutil.copytree(model_folder / str(number), base / str(number))
        (base / str(number) / "assets.extra").mkdir()
        write_manifest(base / str(number))
    labels = VersionLabels(base / "models.config", MODEL, str(base))
    promote(labels, 3, "stable", why="first")
    with (
        run_serve("--model-config-file", labels.config_file, "--poll", 0.05) as (_, address),
        load(address, label="stable") as (results, failures),
        load(address) as (unlabeled_results, unlabeled_failures),
    ):
        wait_until(lambda: results)
        replicas = Replicas([address])
        for _ in range(2):
            assert promote(labels, 12, "stable", why="newer", replicas=replicas, timeout_s=60)
            wait_until(lambda: results[-1][0] == 12)
            assert rollback(labels, "stable", why="noise", replicas=replicas, timeout_s=60)
            wait_until(lambda: results[-1][0] == 3)
    assert not failures
    assert not unlabeled_failures
    assert {version for version, _ in results} == {3, 12} == {version for version, _ in unlabeled_results}
    for version, probability in results + unlabeled_results:
        np.testing.assert_allclose(probability, gains[version] * toy_probability(SLICES), atol=1e-6)
