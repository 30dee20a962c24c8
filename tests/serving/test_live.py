"""A running server: health, labels, reloads, and third-party clients."""

import shutil
import subprocess
import sys
import time

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2, model_service_pb2_grpc

from components.ct.intensity import read_ct
from serving.client.endpoint import ServingError
from serving.client.segmentation import SegmentationClient
from serving.server.model import ModelRequest
from serving.server.server import Server, Settings
from serving.versions.model_config import ModelConfig, to_message, write_model_config
from tests.serving.conftest import wait_until
from tests.serving.toy import MODEL


@pytest.fixture
def running(model_folder, tmp_path):
    """A server of version 3, labeled stable, with a `models.config`."""
    config = tmp_path / "models.config"
    write_model_config(config, [ModelConfig(MODEL, str(model_folder), (3,), labels={"stable": 3})])
    server = Server(Settings(config_file=config, port=0, poll_s=0.05))
    server.config_file = config
    yield server
    server.stop()


@pytest.fixture
def server_without_file(model_folder):
    """A server of the newest version."""
    server = Server(Settings(models=(ModelConfig(MODEL, str(model_folder)),), port=0, poll_s=0.05))
    yield server
    server.stop()


def reload(address, configs):
    request = model_management_pb2.ReloadConfigRequest(config=to_message(configs))
    with grpc.insecure_channel(address) as channel:
        return model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest(request, timeout=60)


def test_server_and_prediction_service_report_serving(running):
    with grpc.insecure_channel(running.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "PredictionService", "ModelService"):  # tensorflow/serving, model_servers/server.cc
            response = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            assert response.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="no"), timeout=10)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_label_selects_a_version(running, scan):
    volume = read_ct(scan)[0]
    with SegmentationClient(running.address, MODEL, version_label="stable") as client:
        assert client.predict(volume).version == 3
    with (
        SegmentationClient(running.address, MODEL, version_label="canary") as client,
        pytest.raises(ServingError, match="Unrecognized servable version label: canary") as caught,
    ):
        client.predict(volume)
    assert caught.value.code == "INVALID_ARGUMENT"


def test_a_reload_request_replaces_the_configuration(server_without_file, model_folder, scan):
    base, address = str(model_folder), server_without_file.address
    for labels in ({"stable": 3}, {"stable": 12, "old": 3}):
        response = reload(address, [ModelConfig(MODEL, base, (3, 12), labels=labels)])
        assert response.status.error_code == 0
    assert server_without_file.models.available_versions() == {MODEL: [3, 12]}
    with SegmentationClient(address, MODEL, version_label="stable") as client:
        assert client.predict(read_ct(scan)[0]).version == 12


def test_a_config_file_replaces_the_configuration_of_a_reload_request_at_the_next_check(running, model_folder):
    reload(running.address, [ModelConfig(MODEL, str(model_folder), (3, 12), labels={"stable": 3, "new": 12})])
    wait_until(lambda: running.models.available_versions() == {MODEL: [3]})


@pytest.mark.parametrize(
    ("configs", "code", "details"),
    [
        ([], "INVALID_ARGUMENT", "only a model_config_list"),
        ([ModelConfig("", "/m")], "INVALID_ARGUMENT", "name and a base_path"),
        ([ModelConfig(MODEL, "/missing")], "FAILED_PRECONDITION", "no version folders in /missing"),
        ([ModelConfig(MODEL, "models")], "INVALID_ARGUMENT", "an absolute path or URI; got base_path()=models"),
        ([ModelConfig(MODEL, "BASE", (3,), labels={"stable": 99})], "FAILED_PRECONDITION", "label to version 99 of"),
    ],
)
def test_an_invalid_configuration_is_rejected_and_changes_nothing(running, model_folder, configs, code, details):
    configs = [ModelConfig(c.name, c.base.replace("BASE", str(model_folder)), c.specific, 1, c.labels) for c in configs]
    with pytest.raises(grpc.RpcError) as caught:
        reload(running.address, configs)
    assert caught.value.code().name == code
    assert details in caught.value.details()
    assert running.models.available_versions() == {MODEL: [3]}


@pytest.mark.parametrize(
    ("change", "details"),
    [({"model_platform": "onnx"}, "toy requests unsupported platform onnx"), ({"base_path": "/" + "x" * 300}, "/xxx")],
)
def test_a_configuration_that_only_a_server_can_refuse_is_rejected(running, model_folder, change, details):
    """Tensorflow/serving, model_servers/server_core.cc, CreateStoragePathRoutes."""
    config = to_message([ModelConfig("toy", str(model_folder))])
    config.model_config_list.config[0].MergeFrom(type(config.model_config_list.config[0])(**change))
    request = model_management_pb2.ReloadConfigRequest(config=config)
    with grpc.insecure_channel(running.address) as channel, pytest.raises(grpc.RpcError) as caught:
        model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest(request, timeout=60)
    assert caught.value.code().name == ("INVALID_ARGUMENT" if "model_platform" in change else "FAILED_PRECONDITION")
    assert details in caught.value.details()
    assert running.models.available_versions() == {MODEL: [3]}


@pytest.mark.parametrize(
    "content", [b"model_config_list { nonsense", b"\xff\xfe", b"", b"model_config_list {" * 10_000]
)
def test_a_malformed_config_file_is_one_warning_and_folders_are_still_followed(model_folder, tmp_path, caplog, content):
    shutil.copytree(model_folder / "3", tmp_path / "toy" / "3")
    config = tmp_path / "models.config"
    write_model_config(config, [ModelConfig(MODEL, str(tmp_path / "toy"))])
    server = Server(Settings(config_file=config, port=0, poll_s=0.02))
    try:
        config.write_bytes(content)
        wait_until(lambda: "not reloaded" in caplog.text)
        shutil.copytree(model_folder / "12", tmp_path / ".12")
        (tmp_path / ".12").rename(tmp_path / "toy" / "12")
        wait_until(lambda: server.models.available_versions() == {MODEL: [12]})
    finally:
        server.stop()
    assert caplog.text.count("not reloaded") == 1


def test_a_refused_config_file_is_one_warning_and_takes_effect_once_the_version_is_loaded(
    running, model_folder, caplog
):
    """tensorflow/serving, model_servers/server.cc: PollFilesystemAndReloadConfig applies the file at every check."""
    moved = ModelConfig(MODEL, str(model_folder), (12,), labels={"stable": 12})
    write_model_config(running.config_file, [moved])
    wait_until(lambda: "version 12 of model toy, which is not currently available" in caplog.text)
    time.sleep(0.3)
    assert caplog.text.count("not reloaded") == 1
    assert running.models.available_versions() == {MODEL: [3]}
    reload(running.address, [ModelConfig(MODEL, str(model_folder), (3, 12), labels={"stable": 3})])
    wait_until(lambda: running.models.available_versions() == {MODEL: [12]})
    assert running.models.resolve(ModelRequest(MODEL, label="stable"))[0] == 12


def test_a_server_can_serve_two_models(server_without_file, model_folder, tmp_path):
    shutil.copytree(model_folder / "12", tmp_path / "second" / "1")
    second = ModelConfig("second", str(tmp_path / "second"))
    reload(server_without_file.address, [ModelConfig(MODEL, str(model_folder)), second])
    assert server_without_file.models.available_versions() == {MODEL: [12], "second": [1]}


def test_the_status_of_a_label_is_that_of_all_versions(running):
    """tensorflow/serving, model_servers/get_model_status_impl.cc reads the version alone."""
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name, request.model_spec.version_label = MODEL, "no"
    with grpc.insecure_channel(running.address) as channel:
        response = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request, timeout=30)
    assert [entry.version for entry in response.model_version_status] == [3]


OVMSCLIENT = """
import sys
import numpy as np
from ovmsclient import make_grpc_client, make_http_client
from ovmsclient.tfs_compat.base.errors import ModelNotFoundError
slices = np.load(sys.argv[3])
for client in (make_grpc_client(sys.argv[1]), make_http_client(sys.argv[2])):
    for version in (0, 12):  # 0, its default, is the newest
        status = client.get_model_status("toy", version)
        assert status == {12: {"state": "AVAILABLE", "error_code": 0, "error_message": ""}}, status
    metadata = client.get_model_metadata("toy")
    if "model_spec" in metadata:  # the HTTP client returns TF Serving's JSON unchanged
        assert metadata["model_spec"]["version"] == "12", metadata
    else:
        assert metadata["model_version"] == 12, metadata
        assert metadata["inputs"]["slices_hu"]["dtype"] == "DT_INT16", metadata
    outputs = client.predict({"slices_hu": slices}, "toy")
    expected = 0.5 * np.clip((slices.astype(np.float32) + 1250) / 1500, 0, 1)
    np.testing.assert_allclose(outputs["lesion_probability"], expected, atol=1e-6)
    np.testing.assert_array_equal(outputs["lesion_mask"], expected >= 0.25)
    try:
        client.predict({"slices_hu": slices}, "other")
        raise SystemExit("an unknown model returned outputs")
    except ModelNotFoundError:
        pass
"""


def test_ovmsclient_works_unchanged(model_folder, tmp_path):
    np.save(tmp_path / "slices.npy", np.random.default_rng(4).integers(-1400, 400, (2, 9, 11), np.int16))
    server = Server(Settings(models=(ModelConfig(MODEL, str(model_folder)),), port=0, rest_port=0))
    try:
        # In a separate process: ovmsclient has its own copy of TF Serving's messages.
        command = [sys.executable, "-c", OVMSCLIENT, server.address, server.rest_address, tmp_path / "slices.npy"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    finally:
        server.stop()
    assert done.returncode == 0, done.stderr
