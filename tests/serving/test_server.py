"""The embedded server, called with TF Serving's official messages."""

import re
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.server.batching import BatchLimits
from serving.server.errors import RequestError
from serving.server.grpc_services import CallGuard
from serving.server.tensors import read_tensors
from serving.versions.saved_model import SavedModel
from tests.serving.conftest import run_serve, serve_in_process
from tests.serving.toy import MODEL, SIZE, THRESHOLD, toy_probability

SLICES = np.random.default_rng(1).integers(-1400, 400, (3, SIZE, SIZE), np.int16)


@pytest.fixture
def channel(server):
    with grpc.insecure_channel(server) as channel:
        yield channel


def request_for(model=MODEL, signature="network", inputs=None, version=None, label=None, outputs=()):
    request = predict_pb2.PredictRequest(output_filter=outputs)
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    for name, array in (inputs or {"slices_hu": SLICES}).items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
    return request


def predict(channel, request):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=30)


def predict_error(channel, request):
    with pytest.raises(grpc.RpcError) as caught:
        predict(channel, request)
    return caught.value.code().name, caught.value.details()


def test_predict_returns_all_outputs_of_the_newest_version(channel):
    response = predict(channel, request_for())
    assert response.model_spec.name == MODEL
    assert response.model_spec.version.value == 12
    assert response.model_spec.signature_name == "network"
    assert set(response.outputs) == {"lesion_probability", "lesion_mask", "threshold"}
    expected = 0.5 * toy_probability(SLICES)
    np.testing.assert_allclose(tf.make_ndarray(response.outputs["lesion_probability"]), expected, atol=1e-6)
    mask = tf.make_ndarray(response.outputs["lesion_mask"])
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, expected >= THRESHOLD)


def test_outputs_are_typed_fields_by_default_and_bytes_with_tensor_content(channel, content_server):
    typed = predict(channel, request_for()).outputs["lesion_probability"]
    assert len(typed.float_val) == SLICES.size
    assert not typed.tensor_content
    with grpc.insecure_channel(content_server) as other:
        content = predict(other, request_for()).outputs["lesion_probability"]
    assert not content.float_val
    np.testing.assert_array_equal(tf.make_ndarray(content), tf.make_ndarray(typed))


def test_inputs_can_be_typed_fields(channel):
    request = request_for()
    tensor = request.inputs["slices_hu"]
    tensor.ClearField("tensor_content")
    tensor.int_val.extend(SLICES.ravel().tolist())
    probability = tf.make_ndarray(predict(channel, request).outputs["lesion_probability"])
    np.testing.assert_allclose(probability, 0.5 * toy_probability(SLICES), atol=1e-6)


def test_the_default_signature_accepts_any_size(channel):
    slices = np.zeros((2, 31, 17), np.int16)
    response = predict(channel, request_for(signature="", inputs={"slices_hu": slices}))
    assert response.model_spec.signature_name == "serving_default"
    assert tf.make_ndarray(response.outputs["lesion_mask"]).shape == (2, 31, 17)


def test_an_output_filter_selects_outputs(channel):
    response = predict(channel, request_for(outputs=["lesion_mask"]))
    assert list(response.outputs) == ["lesion_mask"]


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (request_for(model="other"), "NOT_FOUND", "Servable not found for request: Latest(other)"),
        (request_for(version=99), "NOT_FOUND", "Servable not found for request: Specific(toy, 99)"),
        (request_for(model="other", version=1), "NOT_FOUND", "Specific(other, 1)"),
        (request_for(label="no"), "INVALID_ARGUMENT", "Unrecognized servable version label: no"),
        (request_for(model=""), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        (request_for(model="other", label="no"), "INVALID_ARGUMENT", "Unrecognized servable version label: no"),
        (request_for(model="é" * 500_000), "NOT_FOUND", "Servable not found for request: Latest(éé"),
        (request_for(signature="no"), "FAILED_PRECONDITION", 'Serving signature key "no" not found.'),
        (request_for(outputs=["no"]), "INVALID_ARGUMENT", "output tensor alias not found in signature: no"),
        (request_for(outputs=["lesion_mask"] * 2), "INVALID_ARGUMENT", "duplicate output tensor alias"),
        (
            request_for(inputs={"images": SLICES}),
            "INVALID_ARGUMENT",
            "input tensor alias not found in signature: images. Inputs expected to be in the set {slices_hu}.",
        ),
        (
            request_for(inputs={"slices_hu": SLICES, "extra": SLICES}),
            "INVALID_ARGUMENT",
            "input size does not match signature: 2!=1 len({extra,slices_hu}) != len({slices_hu}). "
            "Sent extra: {extra}. Missing but required: {}.",
        ),
        (
            request_for(inputs={"slices_hu": SLICES.astype(np.float32)}),
            "INVALID_ARGUMENT",
            "Expects slices_hu to be int16 but float32 is provided",
        ),
        (
            request_for(inputs={"slices_hu": SLICES[:, :8]}),
            "INVALID_ARGUMENT",
            "Expects slices_hu to have shape [?,16,16] but [3,8,16] is provided",
        ),
        (request_for(inputs={"slices_hu": SLICES[0]}), "INVALID_ARGUMENT", "[?,16,16] but [16,16]"),
    ],
)
def test_errors_match_those_of_tf_serving(channel, request_, code, message):
    actual_code, details = predict_error(channel, request_)
    assert actual_code == code
    assert message in details
    assert len(details.encode()) <= 1024 + len("...TRUNCATED")


def test_inputs_and_model_spec_are_required(channel):
    request = request_for()
    request.ClearField("inputs")
    assert predict_error(channel, request)[0] == "INVALID_ARGUMENT"
    assert predict_error(channel, predict_pb2.PredictRequest()) == ("INVALID_ARGUMENT", "Missing ModelSpec")


def test_a_tensor_with_too_few_bytes_for_its_shape_is_an_error(channel):
    request = request_for()
    request.inputs["slices_hu"].tensor_content = b"\x00" * 10
    assert predict_error(channel, request) == ("INVALID_ARGUMENT", "tensor parsing error: slices_hu")


def tensor_request(shape, signature="serving_default", **fields):
    request = request_for(signature=signature)
    tensor = {"dtype": tf.int16.as_datatype_enum, "tensor_shape": {"dim": [{"size": size} for size in shape]}, **fields}
    request.inputs["slices_hu"].CopyFrom(TensorProto(**tensor))
    return request


def test_one_number_of_any_shape_takes_bounded_memory(model_folder):
    refused = [(1 << 32, SIZE, SIZE), (1 << 21, SIZE, SIZE), (1, 1 << 62, 1 << 62), (1, 1, 1 << 27)]
    largest = (36, 1024, 1024)
    with (
        run_serve("--model-base", model_folder, "--model", MODEL) as (process, address),
        grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", -1)]) as channel,
    ):
        predict(channel, tensor_request((1, SIZE, SIZE), int_val=[7]))
        idle = peak_mib(process.pid)
        for shape in refused:
            code, details = predict_error(channel, tensor_request(shape, int_val=[7]))
            assert code == "INVALID_ARGUMENT"
            assert f"[{','.join(map(str, shape))}]" in details
            assert "expected at most 268435456; send fewer slices" in details
        assert peak_mib(process.pid) - idle < 50
        outputs = predict(channel, tensor_request(largest, int_val=[-1100])).outputs
        assert len(outputs["lesion_probability"].float_val) == 36 << 20
        assert peak_mib(process.pid) - idle < 1800  # 70 MiB of inputs, 180 of outputs, in messages up to six times that


def peak_mib(pid):
    return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) // 1024


@pytest.mark.parametrize(
    "fields",
    [
        {"int_val": [70_000]},
        {"int_val": [1] * 11 + [-32_769]},
        {"int_val": [1] * 13},
        {"tensor_content": b"\0" * 23},
        {"tensor_content": b"\0" * 26},
        {"shape": (3, 2, -2)},
        {"shape": (-1, 2, 2)},
        {"shape": (1,) * 300},
        {"shape": ()},
        {"shape": (), "tensor_shape": {"unknown_rank": True}},
        {"dtype": 0},
        {"dtype": 10_000},
        {"dtype": tf.string.as_datatype_enum, "string_val": [b"7"] * 12},
        {"dtype": tf.half.as_datatype_enum, "half_val": [7] * 12},
        {"dtype": tf.resource.as_datatype_enum, "resource_handle_val": [{"name": "x"}]},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_tensor_that_does_not_fit_is_an_invalid_argument(channel, fields, caplog):
    code, details = predict_error(channel, tensor_request(fields.pop("shape", (3, 2, 2)), **fields))
    assert code == "INVALID_ARGUMENT"
    assert "slices_hu" in details
    assert not caplog.records


@pytest.mark.parametrize("fields", [{"int_val": [1] * 8_000_000}, {"tensor_content": bytes(8_000_000)}])
def test_surplus_values_are_refused_before_they_are_copied(model_folder, fields):
    request = tensor_request((1, 2, 2), **fields)
    signature = SavedModel(model_folder / "3").signature("serving_default")
    tracemalloc.start()
    with pytest.raises(RequestError, match="tensor parsing error: slices_hu"):
        read_tensors(signature, request.inputs)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12_000_000  # `tensor_content` itself is one copy of the bytes


def test_messages_beyond_the_memory_of_all_calls_are_refused_before_they_are_parsed(model_folder):
    for address in serve_in_process(model_folder, limits=BatchLimits(queue_bytes=1 << 20)):
        with grpc.insecure_channel(address) as channel:
            for _ in range(3):  # a call gives back what it took
                assert predict(channel, request_for()).model_spec.version.value == 12
            body = b"\xff" * (1 << 20 | 1)  # no message: parsed, it would be INTERNAL
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary("/tensorflow.serving.PredictionService/Predict")(body, timeout=30)
    assert caught.value.code().name == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize("signature", ["serving_default", "network"])
def test_the_pixel_limit_holds_for_the_whole_request(channel, monkeypatch, signature):
    """The graph sees only a part of a request; here, the limit is 1,024 grids."""
    monkeypatch.setattr("serving.versions.saved_model.MAX_PIXELS", 1024 * SIZE**2)
    edge = SIZE if signature == "network" else 1
    predict(channel, tensor_request((1024, edge, edge), signature, int_val=[7]))
    code, details = predict_error(channel, tensor_request((1025, edge, edge), signature, int_val=[7]))
    assert (code, "at most 262144 pixels" in details) == ("INVALID_ARGUMENT", True)


@pytest.mark.parametrize(("values", "filled"), [([], [0] * 12), ([5], [5] * 12), ([5, 6], [5] + [6] * 11)])
def test_missing_values_repeat_the_last_one(channel, values, filled):
    """tensorflow/core/framework/tensor.cc, FromProtoField."""
    probability = predict(channel, tensor_request((3, 2, 2), int_val=values)).outputs["lesion_probability"]
    np.testing.assert_allclose(tf.make_ndarray(probability).ravel(), 0.5 * toy_probability(np.array(filled)), atol=1e-6)


@pytest.mark.parametrize("tensor_content", [False, True])
def test_tensors_of_other_types_are_returned_as_sent(tmp_path, tensor_content):
    types = [
        "half",
        "bfloat16",
        "float32",
        "float64",
        "int8",
        "uint8",
        "uint16",
        "int32",
        "uint32",
        "int64",
        "uint64",
        "bool",
        "complex64",
        "string",
    ]
    echo = tf.function(lambda **tensors: {f"{name}_out": tf.identity(tensor) for name, tensor in tensors.items()})
    specs = {name: tf.TensorSpec([None], name, name=name) for name in types}
    module = tf.Module()
    module.echo = echo
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=echo.get_concrete_function(**specs))
    inputs = {name: tf.constant(["a", "b"] if name == "string" else tf.cast([0, 1], name)) for name in types}
    for address in serve_in_process(tmp_path, tensor_content=tensor_content):
        with grpc.insecure_channel(address) as channel:
            outputs = predict(channel, request_for(signature="", inputs=inputs)).outputs
    for name, tensor in inputs.items():
        np.testing.assert_array_equal(tf.make_ndarray(outputs[f"{name}_out"]), tensor.numpy())


def test_an_unexpected_exception_is_internal_and_one_line_of_the_log(caplog):
    def fail(request, context):
        raise ZeroDivisionError(f"of\npatient {request}")

    server = grpc.server(ThreadPoolExecutor(), interceptors=[CallGuard()])
    method = grpc.unary_unary_rpc_method_handler(fail, bytes.decode, str.encode)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("s", {"m": method})])
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/s/m")(b"Doe", timeout=30)
    server.stop(None)
    assert (caught.value.code().name, caught.value.details()) == (
        "INTERNAL",
        "internal error; the log of the server has the cause",
    )
    (record,) = caplog.records
    assert "test_server.py" in record.message
    assert record.message.endswith("ZeroDivisionError: of patient Doe")


def test_a_server_that_stops_answers_new_calls_with_unavailable():
    """`Server.stop` of gRPC alone would cancel a call that arrives at that moment; clients do not repeat it."""
    guard = CallGuard()
    server = grpc.server(ThreadPoolExecutor(), interceptors=[guard])
    method = grpc.unary_unary_rpc_method_handler(lambda request, _: request, bytes.decode, str.encode)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("s", {"m": method})])
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/s/m")
        assert call(b"Doe", timeout=30) == b"Doe"
        guard.refuse_calls()
        with pytest.raises(grpc.RpcError) as caught:
            call(b"Doe", timeout=30)
    server.stop(None)
    assert caught.value.code().name == "UNAVAILABLE"


def test_the_error_of_a_graph_is_one_line_without_its_location(tmp_path):
    @tf.function(input_signature=[tf.TensorSpec([None, None, None], tf.int16, "slices_hu")])
    def check(slices_hu):
        tf.debugging.Assert(tf.shape(slices_hu)[2] < 9, [tf.constant("too wide; crop it")])
        return {"threshold": tf.cast(slices_hu, tf.float32)}

    module = tf.Module()
    module.check = check
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=check)
    for address in serve_in_process(tmp_path):
        with grpc.insecure_channel(address) as channel:
            error = predict_error(channel, tensor_request((1, 1, 9), int_val=[7]))
    assert error == ("INVALID_ARGUMENT", "assertion failed: [too wide; crop it]")


@pytest.mark.parametrize(
    ("method", "body", "code"),
    [
        ("Predict", b"\xff\xff", "INTERNAL"),
        ("Classify", b"", "UNIMPLEMENTED"),
        ("Classify", bytes(5 << 20), "RESOURCE_EXHAUSTED"),  # the numbers of an Example take many times their bytes
        ("GetModelMetadata", b"\xff\xff", "INTERNAL"),
        ("GetModelMetadata", bytes(5 << 20), "RESOURCE_EXHAUSTED"),
    ],
)
def test_other_methods_and_bytes_that_are_no_message_are_one_line(channel, caplog, method, body, code):
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"/tensorflow.serving.PredictionService/{method}")(body, timeout=30)
    assert caught.value.code().name == code
    assert not caplog.records


def test_messages_can_exceed_four_mebibytes(server):
    slices = np.zeros((5000, SIZE, SIZE), np.int16)
    unlimited = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server, options=unlimited) as channel:
        response = predict(channel, request_for(inputs={"slices_hu": slices}))
    assert response.ByteSize() > 5 << 20
    assert tf.make_ndarray(response.outputs["threshold"]).shape == (5000,)


def test_metadata_contains_the_signatures(channel):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = MODEL
    response = prediction_service_pb2_grpc.PredictionServiceStub(channel).GetModelMetadata(request, timeout=30)
    assert response.model_spec.version.value == 12
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert set(signatures.signature_def) == {"network", "serving_default"}
    network = signatures.signature_def["network"]
    assert network.method_name == "tensorflow/serving/predict"
    assert [dim.size for dim in network.inputs["slices_hu"].tensor_shape.dim] == [-1, SIZE, SIZE]


@pytest.mark.parametrize(
    ("model", "fields", "code"),
    [(MODEL, [], "INVALID_ARGUMENT"), (MODEL, ["no"], "INVALID_ARGUMENT"), ("other", ["signature_def"], "NOT_FOUND")],
)
def test_metadata_of_an_unknown_model_or_field_is_an_error(channel, model, fields, code):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = model
    with pytest.raises(grpc.RpcError) as caught:
        prediction_service_pb2_grpc.PredictionServiceStub(channel).GetModelMetadata(request, timeout=30)
    assert caught.value.code().name == code


def status(channel, model, version=None):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = model
    if version is not None:
        request.model_spec.version.value = version
    return model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request, timeout=30)


def test_status_of_a_loaded_version_is_available(channel):
    (entry,) = status(channel, MODEL).model_version_status
    assert entry.version == 12
    assert entry.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE
    assert entry.status.error_code == 0


@pytest.mark.parametrize(
    ("model", "version", "message"),
    [
        ("no", None, "Could not find any versions of model no"),
        ("", None, "Could not find any versions of model "),
        ("", 9, "Could not find version 9 of model "),
        (MODEL, 9, "Could not find version 9 of model toy"),
    ],
)
def test_status_of_an_unknown_model_or_version_is_not_found(channel, model, version, message):
    with pytest.raises(grpc.RpcError) as caught:
        status(channel, model, version)
    assert (caught.value.code().name, caught.value.details()) == ("NOT_FOUND", message)
