"""The client's messages against the official ones: same names, numbers and bytes."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_pb2,
    predict_pb2,
)

from serving.client import messages
from serving.client.messages import TensorError, to_array, to_tensor
from serving.server.tensors import write_as_content, write_as_fields

OFFICIAL = [
    model_pb2.ModelSpec,
    predict_pb2.PredictRequest,
    predict_pb2.PredictResponse,
    get_model_metadata_pb2.GetModelMetadataRequest,
    get_model_metadata_pb2.GetModelMetadataResponse,
    get_model_metadata_pb2.SignatureDefMap,
    get_model_status_pb2.GetModelStatusRequest,
    get_model_status_pb2.GetModelStatusResponse,
    model_management_pb2.ReloadConfigRequest,
    model_management_pb2.ReloadConfigResponse,
    tf.compat.v1.MetaGraphDef,  # refers to SignatureDef and TensorInfo
]
DTYPES = ["float32", "float64", "int32", "uint8", "int16", "int8"]
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, max_side=5))
)


def official_fields():
    fields, queue = {}, [message.DESCRIPTOR for message in OFFICIAL]
    while queue:
        message = queue.pop()
        if message.name not in fields:
            fields[message.name] = {field.name: field for field in message.fields}
            queue += [field.message_type for field in message.fields if field.message_type]
    return fields


@pytest.mark.parametrize("name", sorted(set(messages._SCHEMA) - {"InputsEntry", "TensorInfoEntry"}))
def test_every_field_has_the_official_number(name):
    official = official_fields()[name]
    for line in messages._SCHEMA[name]:
        *_, kind, field, _, number = line.split()
        assert official[field].number == int(number)
        is_message = official[field].message_type is not None
        assert is_message == (kind in messages._SCHEMA) or kind == "bytes"  # the same on the wire


def test_the_official_message_reads_a_request():
    slices = np.arange(24, dtype=np.int16).reshape(2, 3, 4) - 12
    spec = messages.ModelSpec(name="m", signature_name="network", version={"value": 7})
    request = messages.PredictRequest(model_spec=spec, output_filter=["a", "b"])
    request.inputs.add(key="slices_hu", value=to_tensor(slices))
    read = predict_pb2.PredictRequest.FromString(request.SerializeToString())
    assert (read.model_spec.name, read.model_spec.signature_name) == ("m", "network")
    assert read.model_spec.version.value == 7
    assert list(read.output_filter) == ["a", "b"]
    np.testing.assert_array_equal(tf.make_ndarray(read.inputs["slices_hu"]), slices)


@given(ARRAYS)
def test_both_tensor_forms_of_a_reply_give_the_same_array(array):
    for write in (write_as_content, write_as_fields):
        proto = tf.compat.v1.make_tensor_proto(0)
        proto.Clear()
        write(array, proto)
        np.testing.assert_array_equal(tf.make_ndarray(proto), array)  # the official reader agrees
        read = to_array(messages.TensorProto.FromString(proto.SerializeToString()))
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)


def test_a_single_value_fills_the_shape():
    tensor = tf.make_tensor_proto(0.75, shape=(2, 3))
    assert len(tensor.float_val) == 1
    read = to_array(messages.TensorProto.FromString(tensor.SerializeToString()))
    np.testing.assert_array_equal(read, np.full((2, 3), 0.75, np.float32))


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (tf.make_tensor_proto("text"), "type number 7"),
        (messages.TensorProto(dtype=1, tensor_content=b"abc"), "3 bytes.*float32"),
        (messages.TensorProto(dtype=1, tensor_content=b"abcdefgh"), "2 values.*1"),
        (messages.TensorProto(dtype=4, int_val=[b"\x80"]), "truncated"),
        (messages.TensorProto(dtype=1), "0 values.*1"),
    ],
)
def test_an_inconsistent_tensor_is_an_error(proto, message):
    with pytest.raises(TensorError, match=message):
        to_array(messages.TensorProto.FromString(proto.SerializeToString()))
