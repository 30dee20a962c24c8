"""SegmentationClient against real servers, among them some that are down, slow or wrong."""

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
from tests.serving.toy import MODEL, SIZE, THRESHOLD, toy_probability


@pytest.fixture
def volume(scan):
    return read_ct(scan)[0]


def expected_probability(volume, gain):
    slices = axial_slices(volume.voxels)
    grids = gain * toy_probability(fit_hu(slices, SIZE))
    return volume_from_axial_slices(GridFit.for_slices(slices, SIZE).invert(grids))


@pytest.mark.parametrize("kind", ["server", "content_server"])
def test_a_volume_comes_back_as_probability_and_mask_on_its_own_voxels(kind, volume, request):
    with SegmentationClient(request.getfixturevalue(kind), MODEL) as client:
        found = client.predict(volume)
    expected = expected_probability(volume, gain=0.5)
    assert found.probability.shape == found.mask.shape == volume.voxels.shape
    assert found.mask.dtype == np.uint8
    np.testing.assert_allclose(found.probability, expected, atol=1e-6)
    # The threshold is the served model's, applied after the way back from the grid.
    np.testing.assert_array_equal(found.mask, found.probability >= THRESHOLD)
    assert 0 < found.mask.mean() < 1
    assert (found.threshold, found.version) == (THRESHOLD, 12)


@pytest.mark.parametrize(("chunk_bytes", "in_flight"), [(1, 1), (1, 4), (3 * 4 * SIZE**2, 2)])
def test_tiny_chunks_give_what_one_chunk_gives(server, volume, chunk_bytes, in_flight):
    with (
        SegmentationClient(server, MODEL) as whole,
        SegmentationClient(server, MODEL, chunk_bytes=chunk_bytes, in_flight=in_flight) as chunked,
    ):
        expected, found = whole.predict(volume), chunked.predict(volume)
    # Each slice is computed alone; sums of another batch size may differ in the last bit.
    np.testing.assert_allclose(found.probability, expected.probability, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "version", "words"),
    [
        ("other", None, r"answered NOT_FOUND: Servable not found for request: Latest\(other\); check the model"),
        (MODEL, 99, r"NOT_FOUND: Servable not found for request: Specific\(toy, 99\)"),
    ],
)
def test_what_the_server_refuses_is_told_in_its_words(server, volume, model, version, words):
    with (
        SegmentationClient(server, model, version=version) as client,
        pytest.raises(ServingError, match=words) as caught,
    ):
        client.predict(volume)
    assert caught.value.code == "NOT_FOUND"
    assert server in str(caught.value)


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def test_a_server_that_is_down_is_told_within_seconds(volume):
    started = time.monotonic()
    target = f"127.0.0.1:{free_port()}"
    with SegmentationClient(target, MODEL) as client, pytest.raises(ServingError, match=target) as caught:
        client.predict(volume)
    assert caught.value.code == "UNAVAILABLE"
    assert "is the server running there?" in str(caught.value)
    assert time.monotonic() - started < 15


def test_a_server_that_accepts_but_never_answers_ends_with_the_time_allowed(volume):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        with SegmentationClient(target, MODEL, timeout_s=1.5) as client, pytest.raises(ServingError) as caught:
            client.predict(volume)
    assert caught.value.code in ("DEADLINE_EXCEEDED", "UNAVAILABLE")
    assert time.monotonic() - started < 5


class OddServer(grpc.GenericRpcHandler):
    """Speaks the protocol, and answers what a test tells it to."""

    def __init__(self, predict, outputs=("lesion_probability",), version=1, shape=(-1, SIZE, SIZE)):
        self.predict, self.outputs, self.version, self.shape = predict, outputs, version, shape
        self.requests = []

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
        reply = messages.PredictResponse()
        for name, array in outputs.items():
            reply.outputs.add(key=name, value=to_tensor(array))
        return reply.SerializeToString()


@pytest.fixture
def odd():
    """Start an OddServer and get its address."""
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


def answer_as_asked(value=0.5):
    def predict(request, _):
        shape = [dim.size for dim in request.inputs[0].value.tensor_shape.dim]
        return {"lesion_probability": np.full(shape, value, np.float32)}

    return predict


def test_a_model_that_publishes_no_threshold_is_cut_at_one_half(odd, volume):
    with SegmentationClient(odd(OddServer(answer_as_asked(0.5))), MODEL) as client:
        found = client.predict(volume)
    assert found.threshold == 0.5
    assert found.mask.all()


def test_an_unavailable_moment_is_survived(odd, volume):
    failures = iter([True, True, False])
    asked = answer_as_asked()

    def stumble(request, context):
        if next(failures, False):
            context.abort(grpc.StatusCode.UNAVAILABLE, "reloading")
        return asked(request, context)

    with SegmentationClient(odd(OddServer(stumble)), MODEL) as client:
        assert client.predict(volume).mask.all()


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "INTERNAL", "PERMISSION_DENIED"])
def test_other_failures_are_told_at_once_and_not_tried_again(odd, volume, code):
    handler = OddServer(lambda _, context: context.abort(grpc.StatusCode[code], "no\nway"))
    with SegmentationClient(odd(handler), MODEL) as client, pytest.raises(ServingError, match="no way") as caught:
        client.predict(volume)
    assert caught.value.code == code
    assert len(handler.requests) == 1


def test_a_slow_server_ends_with_the_deadline(odd, volume):
    stop = threading.Event()
    handler = OddServer(lambda *_: stop.wait(20))
    try:
        with SegmentationClient(odd(handler), MODEL, timeout_s=1.0) as client:
            started = time.monotonic()
            with pytest.raises(ServingError) as caught:
                client.predict(volume)
            assert time.monotonic() - started < 3
    finally:
        stop.set()
    assert caught.value.code == "DEADLINE_EXCEEDED"


def test_a_volume_whose_version_is_replaced_halfway_is_answered_by_one_version(odd, volume):
    asked = answer_as_asked()

    def replaced(request, context):
        version = request.model_spec.version.value
        if version == 1 and len(handler.requests) > 2:
            handler.version = 2
            context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found for request: Specific(toy, 1)")
        return asked(request, context)

    handler = OddServer(replaced)
    with SegmentationClient(odd(handler), MODEL, chunk_bytes=1, in_flight=1) as client:
        found = client.predict(volume)
    assert found.version == 2
    versions = [request.model_spec.version.value for request in handler.requests]
    assert versions == [1] * 3 + [2] * volume.voxels.shape[2]


@pytest.mark.parametrize(
    ("predict", "words"),
    [
        (lambda *_: {}, "lesion_probability"),
        (lambda *_: {"lesion_probability": np.zeros((2, 3), np.float32)}, r"shape \(2, 3\); expected \(7,"),
        (answer_as_asked(np.nan), "NaN or infinity"),
    ],
)
def test_an_answer_that_makes_no_sense_is_no_mask(odd, volume, predict, words):
    with SegmentationClient(odd(OddServer(predict)), MODEL) as client, pytest.raises(ServingError, match=words):
        client.predict(volume)


@pytest.mark.parametrize("shape", [(-1, -1, -1), (-1, 16, 8), (-1, 16), ()])
def test_a_model_of_another_kind_is_refused_before_anything_is_sent(odd, volume, shape):
    handler = OddServer(answer_as_asked(), shape=shape)
    with SegmentationClient(odd(handler), MODEL) as client, pytest.raises(ServingError, match="no signature"):
        client.predict(volume)
    assert not handler.requests


def test_the_client_does_not_load_tensorflow():
    code = "import sys, serving.client; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
