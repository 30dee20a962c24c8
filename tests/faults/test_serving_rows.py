"""Rows 44 to 49 of the fault table: servers and clients as processes of their own, and what goes wrong between them."""

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

from serving.client.segmentation import SegmentationClient
from serving.versions.labels import Labels
from serving.versions.manifest import write_manifest
from tests.serving.conftest import COMMAND, serving
from tests.serving.toy import MODEL, SIZE, save_toy_model, toy_probability

SLICES = np.random.default_rng(6).integers(-1400, 400, (4, SIZE, SIZE), np.int16)


def predict_request(version=None, label=""):
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = MODEL, "network"
    if version is not None:
        request.model_spec.version.value = version
    if label:
        request.model_spec.version_label = label
    request.inputs["slices_hu"].CopyFrom(tf.make_tensor_proto(SLICES))
    return request


def statuses(address):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = MODEL
    with grpc.insecure_channel(address) as channel:
        reply = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request, timeout=30)
    return {entry.version: entry for entry in reply.model_version_status}


def client(*arguments):
    """Run `predict` as a process."""
    command = [*COMMAND, "predict", "--model", MODEL, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@contextmanager
def load(address, label="", threads=4):
    """Ask without pause until the block ends; yield the answers, and the failures."""
    answers, failures, stop = [], [], threading.Event()

    def ask():
        with grpc.insecure_channel(address) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            while not stop.is_set():
                try:
                    reply = stub.Predict(predict_request(label=label), timeout=30)
                    probability = tf.make_ndarray(reply.outputs["lesion_probability"])
                    answers.append((reply.model_spec.version.value, probability))
                except grpc.RpcError as error:
                    failures.append(f"{error.code().name}: {error.details()}")

    asking = [threading.Thread(target=ask) for _ in range(threads)]
    for thread in asking:
        thread.start()
    try:
        yield answers, failures
    finally:
        stop.set()
        for thread in asking:
            thread.join()


def until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def base(model_folder, tmp_path):
    """A model base of its own, with version 3."""
    shutil.copytree(model_folder / "3", tmp_path / "base" / "3")
    return tmp_path / "base"


def test_row_44_a_bad_new_version_leaves_the_old_one_serving_and_status_says_why(base, model_folder):
    with serving("--model-base", base, "--model", MODEL, "--poll", 0.05) as (process, address):
        with load(address) as (answers, failures):
            until(lambda: answers)
            (base / "4").mkdir()
            (base / "4" / "saved_model.pb").write_bytes(b"no graph")
            until(lambda: 4 in statuses(address) and statuses(address)[4].status.error_message)
            before = len(answers)
            until(lambda: len(answers) > before)
        assert not failures
        assert {version for version, _ in answers} == {3}
        bad = statuses(address)[4]
        assert bad.state == get_model_status_pb2.ModelVersionStatus.END
        assert "version 4 cannot be loaded" in bad.status.error_message
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        assert "not served: version 4 cannot be loaded" in err
        assert process.returncode == 0


def test_row_44_a_server_killed_while_it_loads_a_version_starts_again_with_what_is_sound(base):
    save_toy_model(base / ".4", gain=0.5)
    with serving("--model-base", base, "--model", MODEL, "--poll", 0.01) as (process, address):
        (base / ".4").rename(base / "4")
        # LOADING lasts a moment: whichever side of it the signal falls on, the disk must stay sound.
        until(lambda: 4 in statuses(address))
        process.kill()
        process.wait()
    with serving("--model-base", base, "--model", MODEL) as (_, address):
        assert statuses(address)[4].state == get_model_status_pb2.ModelVersionStatus.AVAILABLE


@pytest.fixture(scope="module")
def process_of_version_12(model_folder):
    with serving("--model-base", model_folder, "--model", MODEL, "--queue", 2, "--batch", 1) as started:
        yield started


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--model", "other"], "answered NOT_FOUND: Servable not found for request: Latest(other)"),
        (["--version", 99], "answered NOT_FOUND: Servable not found for request: Specific(toy, 99)"),
        (["--label", "no"], "answered INVALID_ARGUMENT: Unrecognized servable version label: no"),
    ],
)
def test_row_45_a_wrong_model_version_or_label_is_passed_on_in_words(
    process_of_version_12, scan, tmp_path, more, words
):
    done = client(scan, "-o", tmp_path / "mask.nii.gz", "--server", process_of_version_12[1], *more)
    assert done.returncode == 1
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "mask.nii.gz").exists()


def edited(**edits):
    request = predict_request()
    slices = edits.pop("slices", SLICES)
    name = edits.pop("input", "slices_hu")
    request.ClearField("inputs")
    request.inputs[name].CopyFrom(tf.make_tensor_proto(slices))
    for field, value in edits.items():
        setattr(request.model_spec, field, value)
    return request


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        (edited(slices=SLICES[:, :8]), "INVALID_ARGUMENT", "Expects slices_hu to have shape [?,16,16] but [4,8,16]"),
        (edited(slices=SLICES.astype(np.float32)), "INVALID_ARGUMENT", "to be int16 but float32 is provided"),
        (edited(input="images"), "INVALID_ARGUMENT", "input tensor alias not found in signature: images"),
        (edited(signature_name="no"), "INVALID_ARGUMENT", 'Serving signature key "no" not found.'),
    ],
)
def test_row_45_a_wrong_shape_type_input_or_signature_is_refused_as_tf_serving_does(
    process_of_version_12, request_, code, words
):
    with grpc.insecure_channel(process_of_version_12[1]) as channel, pytest.raises(grpc.RpcError) as caught:
        prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request_, timeout=30)
    assert caught.value.code().name == code
    assert words in caught.value.details()


def test_row_46_a_volume_whose_reply_is_over_four_mebibytes_comes_back_whole(tmp_path):
    save_toy_model(tmp_path / "base" / "1", size=128)
    voxels = np.random.default_rng(7).integers(-1000, 300, (30, 28, 200)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.diag([-1, 1, 2, 1])), tmp_path / "scan.nii.gz")
    with serving("--model-base", tmp_path / "base", "--model", MODEL) as (_, address):
        masks = []
        for chunk_bytes in (64 << 20, 1 << 20):  # one reply of 13 MB, and many of 1 MB
            with SegmentationClient(address, MODEL, chunk_bytes=chunk_bytes) as segmenter:
                probability, _, _ = segmenter.predict_slices(voxels.transpose(2, 1, 0))
                masks.append(probability)
    np.testing.assert_array_equal(*masks)


def test_row_47_a_server_that_is_down_or_silent_ends_in_time_with_no_output(scan, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for address in ("127.0.0.1:1", f"127.0.0.1:{silent.getsockname()[1]}"):
            started = time.monotonic()
            done = client(scan, "-o", tmp_path / "mask.nii.gz", "--server", address, "--timeout", 2)
            assert time.monotonic() - started < 20
            assert done.returncode == 1
            assert done.stderr.startswith(f"error: {address} answered ")
            assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["scan.nii.gz"]


def test_row_47_a_server_that_stops_answering_midway_ends_with_the_deadline(process_of_version_12, scan, tmp_path):
    process, address = process_of_version_12
    process.send_signal(signal.SIGSTOP)
    try:
        done = client(scan, "-o", tmp_path / "mask.nii.gz", "--server", address, "--timeout", 2)
    finally:
        process.send_signal(signal.SIGCONT)
    assert done.returncode == 1
    assert "DEADLINE_EXCEEDED" in done.stderr or "UNAVAILABLE" in done.stderr
    assert not (tmp_path / "mask.nii.gz").exists()
    assert client(scan, "-o", tmp_path / "mask.nii.gz", "--server", address).returncode == 0


def test_row_47_a_full_queue_says_so_and_loses_nothing_that_it_took(tmp_path):
    save_toy_model(tmp_path / "base" / "1", work=200)
    with (
        serving("--model-base", tmp_path / "base", "--model", MODEL, "--queue", 1, "--batch", 1) as (_, address),
        load(address, threads=12) as (answers, failures),
    ):
        until(lambda: len(answers) >= 10 and failures)
    assert {failure.partition(":")[0] for failure in failures} == {"RESOURCE_EXHAUSTED"}
    for _, probability in answers:
        np.testing.assert_allclose(probability, toy_probability(SLICES), atol=1e-6)


@pytest.fixture(scope="module")
def pems(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pems")
    ours, theirs = trustme.CA(), trustme.CA()
    issued = ours.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(folder / "server.pem")
    issued.private_key_pem.write_to_path(folder / "server.key")
    ours.cert_pem.write_to_path(folder / "ca.pem")
    theirs.cert_pem.write_to_path(folder / "wrong.pem")
    return folder


def test_row_48_a_wrong_ca_is_refused(model_folder, scan, pems, tmp_path):
    tls = ["--tls-certificate", pems / "server.pem", "--tls-key", pems / "server.key"]
    mask = tmp_path / "mask.nii.gz"
    with serving("--model-base", model_folder, "--model", MODEL, *tls) as (_, address):
        wrong = client(scan, "-o", mask, "--server", address, "--ca", pems / "wrong.pem", "--timeout", 2)
        assert wrong.returncode == 1
        assert "no encrypted connection was made, and none without encryption is tried" in wrong.stderr
        assert not mask.exists()
        assert client(scan, "-o", mask, "--server", address, "--ca", pems / "ca.pem").returncode == 0


def test_row_48_nothing_but_a_tls_handshake_ever_leaves_the_client(scan, pems, tmp_path):
    heard = []

    def listen(server):
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                heard.append(connection.recv(1))  # and hang up, as a server does that speaks no TLS

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=listen, args=(server,), daemon=True).start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        done = client(scan, "-o", tmp_path / "m.nii.gz", "--server", address, "--ca", pems / "ca.pem", "--timeout", 3)
    assert done.returncode == 1
    assert set(heard) == {b"\x16"}  # the content type of a TLS handshake (RFC 8446, 5.1); HTTP/2 begins with "P"


def test_row_49_promotions_and_rollbacks_under_load_drop_no_request(model_folder, tmp_path):
    base = tmp_path / "base"
    gains = {3: 1.0, 12: 0.5}
    for number in gains:
        shutil.copytree(model_folder / str(number), base / str(number))
        (base / str(number) / "assets.extra").mkdir()
        write_manifest(base / str(number))
    labels = Labels(base / "models.config", MODEL, str(base))
    labels.promote(3, "stable", "first")
    with (
        serving("--model-config-file", labels.config_file, "--poll", 0.05) as (_, address),
        load(address, label="stable") as (answers, failures),
        load(address) as (others, failures_of_others),
    ):
        until(lambda: answers)
        for _ in range(3):
            labels.promote(12, "stable", "newer")
            until(lambda: answers[-1][0] == 12)
            command = ["rollback", "--model-base", base, "--model", MODEL, "--why", "noise"]
            subprocess.run([*COMMAND, *map(str, command)], check=True, capture_output=True, timeout=60)
            until(lambda: answers[-1][0] == 3)
    assert not failures
    assert not failures_of_others
    assert {version for version, _ in answers} == {3, 12} == {version for version, _ in others}
    for version, probability in answers + others:
        np.testing.assert_allclose(probability, gains[version] * toy_probability(SLICES), atol=1e-6)
