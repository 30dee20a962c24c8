"""SegmentationClient against real servers, including servers that are down, slow or faulty."""

import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from components.ct.grid import GridFit, axial_slices, fit_hu, volume_from_axial_slices
from components.ct.intensity import read_ct
from serving.client import messages
from serving.client.endpoint import ServingError
from serving.client.messages import to_tensor
from serving.client.segmentation import SegmentationClient
from tests.serving.conftest import COMMAND
from tests.serving.toy import MODEL, SIZE, THRESHOLD, toy_probability


@pytest.fixture
def volume(scan):
    return read_ct(scan)[0]


def predict(target, volume, model=MODEL, **options):
    with SegmentationClient(target, model, **options) as client:
        return client.predict(volume)


def expected_probability(volume, gain):
    slices = axial_slices(volume.voxels)
    grids = gain * toy_probability(fit_hu(slices, SIZE))
    return volume_from_axial_slices(GridFit.for_slices(slices, SIZE).invert(grids))


@pytest.mark.parametrize("kind", ["server", "content_server"])
def test_a_volume_gets_a_probability_and_a_mask_on_its_own_voxels(kind, volume, request):
    prediction = predict(request.getfixturevalue(kind), volume)
    expected = expected_probability(volume, gain=0.5)
    assert prediction.probability.shape == prediction.mask.shape == volume.voxels.shape
    assert prediction.mask.dtype == np.uint8
    np.testing.assert_allclose(prediction.probability, expected, atol=1e-6)
    # The served model's threshold applies on the scan's own voxels.
    np.testing.assert_array_equal(prediction.mask, prediction.probability >= THRESHOLD)
    assert 0 < prediction.mask.mean() < 1
    assert (prediction.threshold, prediction.version) == (THRESHOLD, 12)


@pytest.mark.parametrize(("chunk_bytes", "in_flight"), [(1, 1), (1, 4), (3 * 4 * SIZE**2, 2)])
def test_the_chunk_size_does_not_change_the_prediction(server, volume, chunk_bytes, in_flight):
    expected, chunked = predict(server, volume), predict(server, volume, chunk_bytes=chunk_bytes, in_flight=in_flight)
    # Sums in batches of another size may differ in the last bit.
    np.testing.assert_allclose(chunked.probability, expected.probability, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "version", "message"),
    [
        ("other", None, r"NOT_FOUND: Servable not found for request: Latest\(other\)"),
        (MODEL, 99, r"NOT_FOUND: Servable not found for request: Specific\(toy, 99\)"),
    ],
)
def test_an_error_of_the_server_keeps_its_message_and_code(server, volume, model, version, message):
    with pytest.raises(ServingError, match=message) as caught:
        predict(server, volume, model, version=version)
    assert caught.value.code == "NOT_FOUND"
    assert server in str(caught.value)


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def test_a_server_that_is_down_is_an_error_within_seconds(volume):
    started = time.monotonic()
    target = f"127.0.0.1:{free_port()}"
    with pytest.raises(ServingError, match=target) as caught:
        predict(target, volume)
    assert caught.value.code == "UNAVAILABLE"
    assert "is the server running there?" in str(caught.value)
    assert time.monotonic() - started < 15


def test_a_server_that_accepts_and_never_answers_times_out(volume):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(ServingError) as caught:
            predict(target, volume, timeout_s=1.5)
    assert caught.value.code in ("DEADLINE_EXCEEDED", "UNAVAILABLE")
    assert time.monotonic() - started < 5


class OddServer(grpc.GenericRpcHandler):
    """A server whose replies a test defines."""

    def __init__(self, predict, outputs=("lesion_probability",), version=1, shape=(-1, SIZE, SIZE)):
        self.predict, self.outputs, self.version, self.shape = predict, outputs, version, shape
        self.requests = []
        self.answers_as = {}  # the model that replies name

    def service(self, details):
        if details.method.endswith("/GetModelMetadata"):
            return grpc.unary_unary_rpc_method_handler(self.metadata)
        return grpc.unary_unary_rpc_method_handler(self.answer)

    def metadata(self, _, context):
        signatures = messages.SignatureDefMap()
        entry = signatures.signature_def.add(key="network")
        info = entry.value.inputs.add(key="slices_hu").value
        info.dtype = 5
        for size in self.shape:
            info.tensor_shape.dim.add(size=size)
        for name in self.outputs:
            entry.value.outputs.add(key=name)
        reply = messages.GetModelMetadataResponse(model_spec={"name": MODEL, "version": {"value": self.version}})
        reply.metadata.add(key="signature_def", value={"value": signatures.SerializeToString()})
        return reply.SerializeToString()

    def answer(self, data, context):
        request = messages.PredictRequest.FromString(data)
        self.requests.append(request)
        outputs = self.predict(request, context)
        reply = messages.PredictResponse(model_spec=self.answers_as)
        for name, array in outputs.items():
            reply.outputs.add(key=name, value=to_tensor(array))
        return reply.SerializeToString()


@pytest.fixture
def odd():
    """A function that starts an OddServer and returns its address."""
    servers = []

    def run(handler):
        server = grpc.server(ThreadPoolExecutor(4), handlers=[handler])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield run
    for server in servers:
        server.stop(0).wait()


def constant_reply(value=0.5):
    def predict(request, _):
        shape = [dim.size for dim in request.inputs[0].value.tensor_shape.dim]
        return {"lesion_probability": np.full(shape, value, np.float32)}

    return predict


def test_a_model_without_a_threshold_output_gets_one_half(odd, volume):
    prediction = predict(odd(OddServer(constant_reply(0.5))), volume)
    assert prediction.threshold == 0.5
    assert prediction.mask.all()


@pytest.mark.parametrize("code", ["UNAVAILABLE", "CANCELLED"])
def test_what_a_restarting_server_answers_is_retried(odd, volume, code):
    failures = iter([True, True, False])
    reply = constant_reply()

    def fail_twice(request, context):
        if next(failures, False):
            context.abort(grpc.StatusCode[code], "reloading")
        return reply(request, context)

    assert predict(odd(OddServer(fail_twice)), volume).mask.all()


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "INTERNAL", "PERMISSION_DENIED"])
def test_other_errors_are_not_retried(odd, volume, code):
    handler = OddServer(lambda _, context: context.abort(grpc.StatusCode[code], "not\nthis"))
    with pytest.raises(ServingError, match="not this") as caught:
        predict(odd(handler), volume)
    assert caught.value.code == code
    assert len(handler.requests) == 1


def test_a_slow_server_exceeds_the_deadline(odd, volume):
    stop = threading.Event()
    handler = OddServer(lambda *_: stop.wait(20))
    try:
        started = time.monotonic()
        with pytest.raises(ServingError) as caught:
            predict(odd(handler), volume, timeout_s=1.0)
        assert time.monotonic() - started < 3
    finally:
        stop.set()
    assert caught.value.code == "DEADLINE_EXCEEDED"


def test_a_volume_whose_version_is_replaced_halfway_is_sent_again_to_the_new_version(odd, volume):
    reply = constant_reply()

    def replace_version(request, context):
        version = request.model_spec.version.value
        if version == 1 and len(handler.requests) > 2:
            handler.version = 2
            context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found for request: Specific(toy, 1)")
        return reply(request, context)

    handler = OddServer(replace_version)
    assert predict(odd(handler), volume, chunk_bytes=1, in_flight=1).version == 2
    versions = [request.model_spec.version.value for request in handler.requests]
    assert versions == [1] * 3 + [2] * volume.voxels.shape[2]


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (lambda *_: {}, "lesion_probability"),
        (lambda *_: {"lesion_probability": np.zeros((2, 3), np.float32)}, r"\(2, 3\).*\(7,"),
        *((constant_reply(value), r"probabilities.*0 to 1") for value in (np.nan, np.inf, -np.inf, -0.1, 1.001, 255)),
    ],
)
def test_an_invalid_reply_is_an_error(odd, volume, reply, message):
    with pytest.raises(ServingError, match=message):
        predict(odd(OddServer(reply)), volume)


@pytest.mark.parametrize("name", [{"name": "other"}, {"name": MODEL, "version": {"value": 2}}])
def test_a_reply_of_another_model_or_version_is_an_error(odd, volume, name):
    handler = OddServer(constant_reply())
    handler.answers_as = name
    with pytest.raises(ServingError, match=r"reply is of model .*expected toy version 1"):
        predict(odd(handler), volume)
    with pytest.raises(ServingError, match=r"reply is of model toy version 1; expected toy version 7"):
        predict(odd(OddServer(constant_reply())), volume, version=7)


@pytest.mark.parametrize("shape", [(-1, -1, -1), (-1, 16, 8), (-1, 16), ()])
def test_a_model_with_another_input_is_an_error_before_the_first_predict(odd, volume, shape):
    handler = OddServer(constant_reply(), shape=shape)
    with pytest.raises(ServingError, match=r"`network` .*`slices_hu`"):
        predict(odd(handler), volume)
    assert not handler.requests


EXIT = """
import sys, threading
from itertools import count
from serving.client import messages
from serving.client.endpoint import Endpoint
from serving.client.segmentation import PREDICT

calls, started = count(), threading.Event()

class SlowReply:
    def FromString(data):
        if next(calls):
            started.set()
            threading.Event().wait(2)  # gRPC's thread handles an event, with the lock of the call
            print("handled", flush=True)
        return data

endpoint = Endpoint(sys.argv[1], 600)
requests = [messages.PredictRequest(model_spec={"name": name}) for name in ("first", "slow")]
replies = endpoint.calls(PREDICT._replace(reply=SlowReply), requests, in_flight=2)
next(replies)
started.wait()
if sys.argv[2] == "with":
    with endpoint:
        raise SystemExit("invalid reply")
raise SystemExit("invalid reply")
"""


@pytest.mark.parametrize("way", ["with", "unclosed"])
def test_a_process_exits_when_grpc_has_handled_the_calls_in_flight(odd, way):
    """Otherwise the main thread may wait forever for the lock of a call (`_MultiThreadedRendezvous.__del__`)."""
    handler = OddServer(lambda request, _: time.sleep(request.model_spec.name == "slow") or {})
    command = [sys.executable, "-c", EXIT, odd(handler), way]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (1, "handled\n", "invalid reply\n")


@pytest.mark.parametrize(("end", "status", "message"), [("Ctrl-C", 130, ""), ("error", 1, "answered INTERNAL: no\n")])
def test_the_command_exits_within_seconds_while_calls_are_in_flight(odd, scan, end, status, message):
    in_flight, stop = threading.Semaphore(0), threading.Event()

    def wait(request, context):
        in_flight.release()
        if end == "error" and request is handler.requests[0]:
            assert in_flight.acquire(timeout=60)
            context.abort(grpc.StatusCode.INTERNAL, "no")
        stop.wait(100)

    handler = OddServer(wait, shape=(-1, 512, 512))  # two slices in a request
    command = [
        *COMMAND,
        "predict",
        scan,
        "-o",
        scan.with_name("mask.nii.gz"),
        "--model",
        MODEL,
        "--server",
        odd(handler),
    ]
    with subprocess.Popen([*map(str, command), "--timeout", "900"], stderr=subprocess.PIPE, text=True) as process:
        try:
            if end == "Ctrl-C":
                assert in_flight.acquire(timeout=60)
                process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
            stop.set()
    assert process.returncode == status
    assert stderr.endswith(message)
    assert stderr.count("\n") == bool(message)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_restarts_during_a_volume_is_waited_for(odd, volume, tmp_path, end):
    """A server process ends while requests are in flight; seconds later, another one listens on its port."""
    port, script = free_port(), tmp_path / "server.py"
    script.write_text(RESTARTED)

    def start(delay_s, slow_s):
        return subprocess.Popen([sys.executable, script, str(port), str(delay_s), str(slow_s)], stdout=subprocess.PIPE)

    first = start(0, 1)
    assert first.stdout.readline()
    with ThreadPoolExecutor(1) as pool, SegmentationClient(f"127.0.0.1:{port}", MODEL, chunk_bytes=1) as client:
        prediction = pool.submit(client.predict, volume)
        assert first.stdout.readline()  # a request has arrived
        first.send_signal(end)
        first.wait()
        second = start(6, 0)  # longer than a wrong address takes to fail
        try:
            assert prediction.result().mask.all()
        finally:
            second.kill()


RESTARTED = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
import grpc
from tests.serving.test_client import OddServer, constant_reply
port, delay_s, slow_s = sys.argv[1], *map(float, sys.argv[2:])
time.sleep(delay_s)
def slow(request, context):
    print("request", flush=True)
    time.sleep(slow_s)
    return constant_reply()(request, context)
server = grpc.server(ThreadPoolExecutor(4), handlers=[OddServer(slow)])
server.add_insecure_port(f"127.0.0.1:{port}")
server.start()
print("ready", flush=True)
server.wait_for_termination()
"""


def test_a_proxy_is_used_only_on_request(odd, volume, monkeypatch):
    target = odd(OddServer(constant_reply()))
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(20)
        for name in ("grpc_proxy", "https_proxy", "http_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        assert predict(target, volume).mask.all()
        with ThreadPoolExecutor(1) as pool, SegmentationClient(target, MODEL, timeout_s=5, proxy=True) as client:
            prediction = pool.submit(client.predict, volume)
            with proxy.accept()[0] as connection:
                assert connection.recv(100).startswith(f"CONNECT {target} ".encode())
            with pytest.raises(ServingError):
                prediction.result()


def test_the_client_does_not_import_tensorflow():
    code = "import sys, serving.client; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
