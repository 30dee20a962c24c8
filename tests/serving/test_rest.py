"""The REST API as TF Serving documents it."""

import http.client
import json
import urllib.error
import urllib.request

import numpy as np
import pytest

from serving.server.server import Server, Settings
from serving.versions.model_config import ModelConfig
from tests.serving.toy import MODEL, SIZE, THRESHOLD, toy_probability

SLICES = np.random.default_rng(2).integers(-1400, 400, (2, SIZE, SIZE), np.int16)


@pytest.fixture(scope="module")
def rest(model_folder):
    server = Server(Settings(models=(ModelConfig(MODEL, str(model_folder)),), port=0, rest_port=0))
    yield f"http://{server.rest_address}"
    server.stop()


def request(url, body=None):
    """Send a GET request, or a POST request with a body; return status and JSON."""
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(url, data, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_status_describes_the_newest_version(rest):
    expected = {"version": "12", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in ("", "/versions/12"):
        assert request(f"{rest}/v1/models/toy{path}") == (200, {"model_version_status": [expected]})


def test_metadata_describes_the_signatures(rest):
    status, content = request(f"{rest}/v1/models/toy/metadata")
    assert status == 200
    assert content["model_spec"] == {"name": "toy", "signature_name": "", "version": "12"}
    network = content["metadata"]["signature_def"]["signature_def"]["network"]
    slices = network["inputs"]["slices_hu"]
    assert slices["dtype"] == "DT_INT16"
    assert [dim["size"] for dim in slices["tensor_shape"]["dim"]] == ["-1", str(SIZE), str(SIZE)]


def test_predict_by_row(rest):
    rows = [{"slices_hu": pixels} for pixels in SLICES.tolist()]
    for instances in (SLICES.tolist(), rows):
        status, content = request(f"{rest}/v1/models/toy:predict", {"instances": instances})
        assert status == 200
        assert set(content["predictions"][0]) == {"lesion_probability", "lesion_mask", "threshold"}
        probability = np.array([row["lesion_probability"] for row in content["predictions"]])
        np.testing.assert_allclose(probability, 0.5 * toy_probability(SLICES), atol=1e-6)


def test_predict_by_column_with_a_signature_and_a_version(rest):
    for inputs in (SLICES.tolist(), {"slices_hu": SLICES.tolist()}):
        body = {"signature_name": "network", "inputs": inputs}
        status, content = request(f"{rest}/v1/models/toy/versions/12:predict", body)
        assert status == 200
        np.testing.assert_array_equal(
            content["outputs"]["lesion_mask"], np.array(content["outputs"]["lesion_probability"]) >= THRESHOLD
        )


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("toy:predict", b"{", 400, "JSON Parse error"),
        ("toy:predict", b"[" * 100_000, 400, "JSON Parse error"),
        ("toy:predict", {}, 400, "'inputs' or 'instances'"),
        ("toy:predict", {"instances": []}, 400, "at least one instance"),
        ("toy:predict", {"instances": [[[1, 2], [3]]]}, 400, "not of the same length"),
        ("toy:predict", {"instances": [[["a"]]]}, 400, "not of type int16"),
        ("toy:predict", {"instances": [[[40_000]]]}, 400, "outside -32768 to 32767"),
        ("toy:predict", {"instances": [1]}, 400, "Expects slices_hu to have shape [?,?,?] but [1]"),
        ("toy:predict", {"signature_name": "no", "instances": [[[1]]]}, 400, "not found"),
        ("toy:predict", {"inputs": {"images": [[[1]]]}}, 400, "not found in signature: images"),
        ("toy/versions/99:predict", {"instances": [[[1]]]}, 404, "Specific(toy, 99)"),
        ("toy/labels/no:predict", {"instances": [[[1]]]}, 400, "version label: no"),
        ("other:predict", {"instances": [[[1]]]}, 404, "Latest(other)"),
        ("other", None, 404, "any versions of model other"),
        ("toy:classify", {"examples": []}, 400, "Malformed request: POST /v1/models/toy:classify"),
        ("toy/metadata/more", None, 400, "Malformed request: GET"),
    ],
)
def test_an_invalid_request_is_answered_in_json(rest, path, body, status, message):
    actual_status, content = request(f"{rest}/v1/models/{path}", body)
    assert actual_status == status
    assert message in content["error"]


def test_a_content_length_over_the_limit_is_rejected_before_the_body(rest):
    connection = http.client.HTTPConnection(rest.removeprefix("http://"), timeout=10)
    connection.putrequest("POST", "/v1/models/toy:predict")
    connection.putheader("Content-Length", str(1 << 40))
    connection.endheaders()
    assert connection.getresponse().status == 413


def test_metrics_count_requests_by_outcome_for_known_models_only(rest):
    def metrics():
        with urllib.request.urlopen(f"{rest}/monitoring/prometheus/metrics", timeout=10) as response:
            lines = (line.rpartition(" ") for line in response.read().decode().splitlines() if line[0] != "#")
            return {name: float(value) for name, _, value in lines}

    succeeded = ':tensorflow:serving:request_count{model_name="toy",status="OK"}'
    failed = ':tensorflow:serving:request_count{model_name="",status="NOT_FOUND"}'
    before = metrics()
    request(f"{rest}/v1/models/toy:predict", {"instances": SLICES.tolist()})
    request(f"{rest}/v1/models/invented:predict", {"instances": SLICES.tolist()})
    after = metrics()
    assert after[succeeded] == before.get(succeeded, 0) + 1
    assert after[failed] == before.get(failed, 0) + 1
    assert after['serving_version_available{model_name="toy",version="12"}'] == 1
    assert not any("invented" in name for name in after)
