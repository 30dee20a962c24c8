"""The REST API as TF Serving documents and implements it.

tensorflow/serving: model_servers/http_rest_api_util.cc, model_servers/http_server.cc, util/json_tensor.cc.
"""

import http.client
import json
import re
import select
import socket
import threading
import time
import urllib.error
import urllib.request

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

from serving.server.batching import BatchLimits
from serving.server.server import Server, Settings
from serving.versions.model_config import ModelConfig
from tests.serving.conftest import run_serve
from tests.serving.toy import MODEL, SIZE, THRESHOLD, save_toy_model, toy_probability

SLICES = np.random.default_rng(2).integers(-1400, 400, (2, SIZE, SIZE), np.int16)
PREDICT = "/v1/models/toy:predict"
BODY = json.dumps({"instances": SLICES.tolist()}).encode()


@pytest.fixture(scope="module")
def server(model_folder, tmp_path_factory):
    """A server of the toy network, and of a model that returns its inputs."""
    base = tmp_path_factory.mktemp("echo")
    echo = tf.Module()
    x, flag = tf.TensorSpec((None,), tf.float32, name="x"), tf.TensorSpec((None,), tf.bool, name="flag")
    echo.both = tf.function(lambda x, flag: {"x": x, "flag": flag}, input_signature=[x, flag])
    echo.text = tf.function(lambda x: {"text": tf.strings.as_string(x)}, input_signature=[x])
    signatures = {"serving_default": echo.both, "text": echo.text}
    tf.saved_model.save(echo, str(base / "1"), {name: f.get_concrete_function() for name, f in signatures.items()})
    configs = ModelConfig(MODEL, str(model_folder)), ModelConfig("echo", str(base))
    server = Server(Settings(models=configs, port=0, rest_port=0))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def rest(server):
    return f"http://{server.rest_address}"


def request(url, body=None, method=None, **headers):
    """Send a GET request, or a POST request with a body; return status and JSON."""
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_status_describes_the_newest_version(rest):
    expected = {"version": "12", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in ("", "/versions/12", "/versions/00012", "/METADATA"):
        assert request(f"{rest}/v1/models/toy{path}") == (200, {"model_version_status": [expected]})
    assert request(f"{rest}/V1/Models/%74oy")[0] == 200


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
        status, content = request(rest + PREDICT, {"instances": instances})
        assert status == 200
        assert set(content["predictions"][0]) == {"lesion_probability", "lesion_mask", "threshold"}
        probability = np.array([row["lesion_probability"] for row in content["predictions"]])
        np.testing.assert_allclose(probability, 0.5 * toy_probability(SLICES), atol=1e-6)


def test_predict_by_column_with_a_signature_and_a_version(rest):
    for inputs in (SLICES.tolist(), {"slices_hu": SLICES.tolist(), "more": "is ignored"}):
        body = {"signature_name": "network", "inputs": inputs}
        status, content = request(f"{rest}/v1/models/toy/versions/12:predict", body)
        assert status == 200
        np.testing.assert_array_equal(
            content["outputs"]["lesion_mask"], np.array(content["outputs"]["lesion_probability"]) >= THRESHOLD
        )


def test_numbers_are_the_shortest_that_round_trip(rest):
    """json_tensor.cc, WriteDecimal: 0.1 as a float32 is not 0.10000000149011612, and NaN is no null."""
    body = b'{"inputs": {"x": [0.1, 1, 16777217, 3e-5, NaN, -Infinity], "flag": [true]}} and more'
    call = urllib.request.Request(f"{rest}/v1/models/echo:predict", body)
    with urllib.request.urlopen(call, timeout=30) as response:
        assert b'"x":[0.1, 1.0, 16777216.0, 3e-05, NaN, -Infinity]' in response.read()
    body = {"inputs": {"x": [0.1, 1, 16777217, 3e-5], "flag": [True, False]}}
    outputs = request(f"{rest}/v1/models/echo:predict", body)[1]["outputs"]
    assert outputs == {"x": [0.1, 1.0, 16777216.0, 3e-5], "flag": [True, False]}


@pytest.mark.parametrize(
    "body", [BODY + b" and more", b"\xef\xbb\xbf" + BODY, BODY.replace(b"{", b' {"other": [1e3, null], ')]
)
def test_what_tf_serving_ignores_in_a_body_is_ignored(rest, body):
    assert request(rest + PREDICT, body) == request(rest + PREDICT, BODY)


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("toy:predict", b"", 400, "JSON Parse error: The document is empty"),
        ("toy:predict", b"{", 400, "JSON Parse error"),
        ("toy:predict", b"\xff\xfe{}", 400, "JSON Parse error"),
        ("toy:predict", b"[" * 100_000, 400, "JSON Parse error"),
        ("toy:predict", b'{"instances": [[[1' + b"0" * 5000 + b"]]]}", 400, "JSON Parse error"),
        ("toy:predict", [], 400, "JSON Value: [] Is not object"),
        ("toy:predict", {}, 400, "Missing 'inputs' or 'instances' key"),
        ("toy:predict", {"instances": [1], "inputs": [1]}, 400, "expected one of them"),
        ("toy:predict", {"instances": 1}, 400, "Expecting 'instances' to be an list/array"),
        ("toy:predict", {"instances": []}, 400, "at least one value"),
        ("toy:predict", {"signature_name": 1, "instances": [1]}, 400, "string value 'signature_name'"),
        ("toy:predict", {"instances": [[[1, 2], [3]]]}, 400, "[3] of slices_hu at level: 2 is not of expected size: 2"),
        ("toy:predict", {"instances": [[[1]], [2]]}, 400, "JSON Value: 2 of slices_hu at level: 2"),
        ("toy:predict", {"inputs": [[[1]], 2]}, 400, "JSON Value: 2 of slices_hu at level: 1"),
        ("toy:predict", {"inputs": [1, [2]]}, 400, "Expects slices_hu to have shape [?,?,?] but [2]"),
        ("toy:predict", {"instances": [[["a"]]]}, 400, "Value: 'a' of slices_hu is not of expected type: int16"),
        ("toy:predict", {"inputs": [[[True, 1]]]}, 400, "JSON Value: True of slices_hu is not of expected type: int16"),
        ("toy:predict", {"inputs": [[[1, 1.0]]]}, 400, "JSON Value: 1.0 of slices_hu is not of expected type: int16"),
        ("toy:predict", {"inputs": [[[None]]]}, 400, "JSON Value: None of slices_hu is not of expected type: int16"),
        ("toy:predict", {"instances": [[[40_000]]]}, 400, "40000 out of bounds for int16"),
        ("toy:predict", {"instances": [[[10**30]]]}, 400, "JSON Value"),
        ("toy:predict", {"instances": [1]}, 400, "Expects slices_hu to have shape [?,?,?] but [1]"),
        ("toy:predict", {"signature_name": "no", "instances": [[[1]]]}, 400, "not found"),
        ("toy:predict", {"inputs": {"images": [[[1]]]}}, 400, "Missing named input: slices_hu"),
        ("toy:predict", {"instances": [{"images": [[1]]}]}, 400, "keys must be equal to: slices_hu"),
        ("toy:predict", {"instances": [{"slices_hu": [[1]]}, 1]}, 400, "element: 1 of 'instances' list"),
        ("echo:predict", {"instances": [{"x": 1}]}, 400, "{'x': 1} keys must be equal to: flag,x"),
        ("echo:predict", {"instances": [1]}, 400, "Missing named input: x"),
        ("echo:predict", {"inputs": [1]}, 400, "Missing named input: x"),
        ("echo:predict", {"inputs": {"x": [1], "flag": [1]}}, 400, "is not of expected type: bool"),
        ("echo:predict", {"inputs": {"x": [1] * 300 + ["a" * 10**6], "flag": []}}, 400, "Value: 'aaa"),
        ("echo:predict", {"signature_name": "text", "inputs": [1]}, 400, "tensor type: object"),
        ("toy/versions/99:predict", {"instances": [[[1]]]}, 404, "Specific(toy, 99)"),
        ("toy/labels/no:predict", {"instances": [[[1]]]}, 400, "version label: no"),
        ("toy/labels/n%6F:predict", {"instances": [[[1]]]}, 400, "version label: no"),
        ("other:predict", {}, 404, "Latest(other)"),
        ("other", None, 404, "any versions of model other"),
        ("toy?verbose=1", None, 404, "any versions of model toy?verbose=1"),
        ("toy/versions/9223372036854775808", None, 400, "version: 9223372036854775808 to numeric."),
        ("toy/versions/" + "9" * 5000, None, 400, "Failed to convert version: 999"),
        ("toy:predict", b'{"signature_name": "\\ud800", "instances": [[[1]]]}', 400, 'signature key "?" not found'),
        ("toy:predict", b'{"inputs": [[["\\udfff"]]]}', 400, "JSON Value"),
        ("toy:predict", b'{"inputs": {"\\udbff": [[[1]]]}}', 400, "Missing named input: slices_hu"),
        ("toy:predict", {"signature_name": "n" * 10**6, "instances": [[[1]]]}, 400, "...TRUNCATED"),
        ("toy:classify", {"examples": []}, 400, "Malformed request: POST /v1/models/toy:classify"),
        ("toy:PREDICT", {}, 400, "Malformed request: POST /v1/models/toy:PREDICT"),
        ("toy:predict", None, 400, "Malformed request: GET"),
        ("toy", {}, 400, "Malformed request: POST"),
        ("toy/metadata/more", None, 400, "Malformed request: GET"),
        ("versions/12", None, 400, "Missing model name in request."),
        ("../../v2/health", None, 400, "Malformed request"),
    ],
)
def test_an_invalid_request_is_answered_in_json(rest, path, body, status, message):
    actual_status, content = request(f"{rest}/v1/models/{path}", body)
    assert actual_status == status
    assert message in content["error"]
    assert len(content["error"].encode()) <= 1024 + len("...TRUNCATED")


def test_a_path_outside_the_api_is_not_found(rest):
    assert request(f"{rest}/v1/models") == (400, {"error": "Missing model name in request."})
    for path in ("/", "/v2/health/ready", "//v1/models/toy"):
        assert request(rest + path)[0] == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "BREW"])
@pytest.mark.parametrize("path", ["/v1/models/toy", "/monitoring/prometheus/metrics"])
def test_another_method_is_malformed(rest, method, path):
    assert request(rest + path, method=method) == (400, {"error": f"Malformed request: {method} {path}"})


def test_answers_do_not_name_the_software(rest):
    for method, status in (("GET", 200), ("HEAD", 400), ("DELETE", 400), ("OPTIONS", 400)):
        connection = http.client.HTTPConnection(rest.removeprefix("http://"), timeout=10)
        connection.request(method, "/v1/models/toy")
        response = connection.getresponse()
        assert (response.status, response.getheader("Content-Type")) == (status, "application/json")
        assert response.getheader("Server") is None
        assert bool(response.read()) == (method != "HEAD")


def test_a_cors_preflight_is_answered(rest):
    """http_server.cc: 200 without a body; the headers that let a browser continue need --enable_cors_support."""
    options = urllib.request.Request(rest + PREDICT, headers={"Origin": "https://a.example"}, method="OPTIONS")
    with urllib.request.urlopen(options, timeout=10) as response:
        assert (response.status, response.read()) == (200, b"")
        assert response.getheader("Access-Control-Allow-Origin") is None


def exchange(rest, data, half_close=False):
    """Send bytes, and return all bytes of the answer."""
    host, port = rest.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(data)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while chunk := connection.recv(1 << 16):
                answer += chunk
        except ConnectionResetError:
            pass
    return answer


def chunked(body):
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


def message(*headers, body=b"", line=f"POST {PREDICT} HTTP/1.1"):
    return "\r\n".join([line, "Host: x", *headers, "", ""]).encode("latin-1") + body


GET = "GET /v1/models/toy HTTP/1.1"
SMUGGLED = message(line="GET /v1/models/smuggled HTTP/1.1")
LAST = message("Connection: close", line=GET)
LENGTH = f"Content-Length: {len(BODY)}"
CHUNKS = chunked(BODY)


@pytest.mark.parametrize(
    ("data", "statuses"),
    [
        (message(f"Content-Length: {len(SMUGGLED)}", line=GET, body=SMUGGLED) + LAST, [200, 200]),
        (message("Transfer-Encoding: chunked", line=GET, body=chunked(SMUGGLED)) + LAST, [200, 200]),
        (message(LENGTH, body=BODY) + message(LENGTH, body=BODY) + LAST, [200, 200, 200]),
        (message("Transfer-Encoding: chunked", body=CHUNKS) + LAST, [200, 200]),
        (message("Transfer-Encoding: Chunked", body=CHUNKS) + LAST, [200, 200]),
        (message(line="GET HTTP://Host:1/v1/models/toy HTTP/1.1") + LAST, [200, 200]),
        (message() + LAST, [400]),
        (message(LENGTH, LENGTH, body=BODY) + LAST, [200, 200]),
        (message(LENGTH, "Transfer-Encoding: chunked", body=CHUNKS) + LAST, [400]),
        (message("Transfer-Encoding: chunked", "Content-Length: 3", body=CHUNKS) + LAST, [400]),
        (message("Content-Length: 3", "Transfer-Encoding: chunked", line=GET, body=b"0\r\n\r\n") + LAST, [400]),
        (message("Content-Length: 0", LENGTH, body=BODY) + LAST, [400]),
        (message(f"Content-Length: {len(BODY)}, 3", body=BODY) + LAST, [400]),
        (message(f"Content-Length: +{len(BODY)}", body=BODY) + LAST, [400]),
        (message("Content-Length: -1", body=BODY) + LAST, [400]),
        (message("Content-Length: " + "9" * 5000), [400]),
        (message("Content-Length: " + "9" * 30), [400]),
        (message("Content-Length: \xb2", body=b"{}"), [400]),
        (message(f"Content-Length : {len(BODY)}", body=BODY) + LAST, [400]),
        (message("Transfer-Encoding: gzip, chunked", body=CHUNKS) + LAST, [400]),
        (message("Transfer-Encoding: identity", LENGTH, body=BODY) + LAST, [400]),
        (message("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=CHUNKS) + LAST, [400]),
        (message("Transfer-Encoding: chunked", body=b"-1\r\n" + BODY) + LAST, [400]),
        (message("X: " + "a" * 200_000) + LAST, [400]),
        (message("X: \0") + LAST, [400]),
        (message(line="GET /v1/models/to y HTTP/1.1"), [400]),
        (message(line="\x16\x03\x01"), [400]),
    ],
)
def test_a_connection_is_divided_into_requests_as_rfc_9112_says(rest, data, statuses):
    """RFC 9112, 6: a body has one length, by either header; a request in doubt is refused and ends the connection."""
    answer = exchange(rest, data)
    assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == statuses
    assert b"smuggled" not in answer


@pytest.mark.parametrize(
    "data",
    [
        message(LENGTH, body=BODY[:-1]),
        message(f"Content-Length: {len(BODY) + 1}", body=BODY),
        message("Transfer-Encoding: chunked", body=CHUNKS[:-9]),
        message("Transfer-Encoding: chunked", body=CHUNKS[:-5]),
    ],
)
def test_a_truncated_body_is_not_predicted(rest, data):
    assert b"200 OK" not in exchange(rest, data, half_close=True)


def test_a_body_over_the_limit_is_rejected(rest):
    assert exchange(rest, message(f"Content-Length: {1 << 40}")).startswith(b"HTTP/1.1 400 ")
    chunk = b"%x\r\n%b\r\n" % (16 << 20, bytes(16 << 20))
    with pytest.raises(OSError, match=r"reset|pipe"):
        exchange(rest, message("Transfer-Encoding: chunked", body=chunk * 18))


def test_a_body_of_too_many_values_is_refused_before_it_is_parsed(rest):
    for values in (b"0," * (1 << 24) + b"0,", b"[]," * (1 << 20)):
        status, content = request(rest + PREDICT, b'{"inputs": [' + values + b"0]}")
        assert (status, "send fewer slices" in content["error"]) == (400, True)


def test_many_predictions_do_not_delay_a_status(model_folder):
    body = json.dumps({"inputs": np.full((8, 256, 256), -1000).tolist()}).encode()
    statuses, waits = [], []
    options = "--model-base", model_folder, "--model", MODEL, "--rest-port", 0
    with run_serve(*options) as (process, address), grpc.insecure_channel(address) as channel:
        rest = "http://" + process.stdout.readline().split()[-1]
        stub = model_service_pb2_grpc.ModelServiceStub(channel)

        def predict():
            with urllib.request.urlopen(rest + PREDICT, body, timeout=200) as response:
                response.read()
                statuses.append(response.status)

        clients = [threading.Thread(target=predict) for _ in range(64)]
        start = time.monotonic()
        for client in clients:
            client.start()
        while any(client.is_alive() for client in clients):
            asked = time.monotonic()
            stub.GetModelStatus(get_model_status_pb2.GetModelStatusRequest(model_spec={"name": MODEL}), timeout=100)
            request(f"{rest}/v1/models/toy")
            waits.append(time.monotonic() - asked)
            time.sleep(0.05)
    assert statuses == [200] * 64
    assert max(waits) < (time.monotonic() - start) / 3


@pytest.fixture
def slow_server(tmp_path):
    """A server with a queue of two whose model takes about a second per slice of any size."""
    save_toy_model(tmp_path / "1", work=2000)
    limits = BatchLimits(queue_size=2, batch_slices=1, workers=1)
    server = Server(Settings(models=(ModelConfig(MODEL, str(tmp_path)),), port=0, rest_port=0, limits=limits))
    yield server
    server.stop()


def test_predictions_of_clients_that_hung_up_are_not_computed_and_waiting_ones_are_limited(slow_server):
    rest, body = f"http://{slow_server.rest_address}", b'{"instances": [[[1]], [[2]]]}'
    host, port = slow_server.rest_address.split(":")
    clients = [socket.create_connection((host, int(port)), timeout=60) for _ in range(8)]
    for client in clients:
        client.sendall(message(f"Content-Length: {len(body)}", body=body))
    answered = []
    while len(answered) < 4:  # a queue of two, and two threads
        answered += select.select([client for client in clients if client not in answered], [], [], 60)[0]
        assert answered
    assert {client.recv(12) for client in answered[:4]} == {b"HTTP/1.1 429"}
    for client in clients:
        client.close()
    started = time.monotonic()
    assert request(rest + PREDICT, body)[0] == 200
    with urllib.request.urlopen(f"{rest}/monitoring/prometheus/metrics", timeout=10) as response:
        (slices,) = re.findall(rb"serving_batch_slices_sum ([0-9.]+)", response.read())
    assert float(slices) <= 2 + 2 + 2, time.monotonic() - started  # one slice of each request that had begun


def test_metrics_count_requests_by_outcome_for_known_models_only(rest):
    def metrics():
        with urllib.request.urlopen(f"{rest}/monitoring/prometheus/metrics", timeout=10) as response:
            lines = (line.rpartition(" ") for line in response.read().decode().splitlines() if line[0] != "#")
            return {name: float(value) for name, _, value in lines}

    succeeded = ':tensorflow:serving:request_count{model_name="toy",status="OK"}'
    failed = ':tensorflow:serving:request_count{model_name="",status="NOT_FOUND"}'
    before = metrics()
    request(rest + PREDICT, BODY)
    request(f"{rest}/v1/models/invented:predict", BODY)
    after = metrics()
    assert after[succeeded] == before.get(succeeded, 0) + 1
    assert after[failed] == before.get(failed, 0) + 1
    assert after['serving_version_available{model_name="toy",version="12"}'] == 1
    assert not any("invented" in name for name in after)
