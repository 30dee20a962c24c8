"""A running server: health, labels, reloads, and third-party clients."""

import shutil
import subprocess
import sys

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc

from components.ct.intensity import read_ct
from serving.client.endpoint import ServingError
from serving.client.segmentation import SegmentationClient
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


def reload(address, configs):
    request = model_management_pb2.ReloadConfigRequest(config=to_message(configs))
    with grpc.insecure_channel(address) as channel:
        return model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest(request, timeout=60)


def test_server_and_prediction_service_report_serving(running):
    with grpc.insecure_channel(running.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "tensorflow.serving.PredictionService"):
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


def test_a_reload_request_replaces_the_configuration(running, model_folder, scan):
    base = str(model_folder)
    response = reload(running.address, [ModelConfig(MODEL, base, (3, 12), labels={"stable": 12, "old": 3})])
    assert response.status.error_code == 0
    assert running.models.available_versions() == {MODEL: [3, 12]}
    with SegmentationClient(running.address, MODEL, version_label="stable") as client:
        assert client.predict(read_ct(scan)[0]).version == 12


@pytest.mark.parametrize(
    ("configs", "code", "details"),
    [
        ([], "INVALID_ARGUMENT", "only a model_config_list"),
        ([ModelConfig("", "/m")], "INVALID_ARGUMENT", "name and a base_path"),
        ([ModelConfig(MODEL, "/missing")], "FAILED_PRECONDITION", "no version folders in /missing"),
        ([ModelConfig(MODEL, "BASE", (3,), labels={"x": 99})], "FAILED_PRECONDITION", "label x to version 99"),
    ],
)
def test_an_invalid_configuration_is_rejected_and_changes_nothing(running, model_folder, configs, code, details):
    configs = [ModelConfig(c.name, c.base.replace("BASE", str(model_folder)), c.specific, 1, c.labels) for c in configs]
    with pytest.raises(grpc.RpcError) as caught:
        reload(running.address, configs)
    assert caught.value.code().name == code
    assert details in caught.value.details()
    assert running.models.available_versions() == {MODEL: [3]}


def test_a_changed_config_file_is_reloaded_and_a_broken_one_ignored(running, model_folder, caplog):
    running.config_file.write_text("model_config_list { nonsense")
    wait_until(lambda: "not reloaded" in caplog.text)
    assert running.models.available_versions() == {MODEL: [3]}
    write_model_config(running.config_file, [ModelConfig(MODEL, str(model_folder), (12,), labels={"stable": 12})])
    wait_until(lambda: running.models.available_versions() == {MODEL: [12]})


def test_a_server_can_serve_two_models(running, model_folder, tmp_path):
    shutil.copytree(model_folder / "12", tmp_path / "second" / "1")
    reload(running.address, [ModelConfig(MODEL, str(model_folder)), ModelConfig("second", str(tmp_path / "second"))])
    assert running.models.available_versions() == {MODEL: [12], "second": [1]}


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
