"""TF Serving's messages and tensors for a client, without importing TensorFlow (which takes ten seconds).

Names, numbers and types are those of tensorflow_serving/apis/{model,predict,get_model_metadata,get_model_status,
model_management}.proto, tensorflow_serving/util/status.proto and
tensorflow/core/{framework/tensor,framework/tensor_shape,protobuf/meta_graph}.proto. Four declarations differ, with the
same bytes on the wire: maps are repeated entries, enums are int32, a server's configuration is the bytes of its
message, and packed number fields of a tensor are bytes, which numpy reads without creating a Python float per value.
"""

import math
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from numpy.typing import NDArray

_SCHEMA = {
    "Int64Value": ["int64 value = 1"],
    "Any": ["string type_url = 1", "bytes value = 2"],
    "ModelSpec": ["string name = 1", "Int64Value version = 2", "string signature_name = 3", "string version_label = 4"],
    "Dim": ["int64 size = 1"],
    "TensorShapeProto": ["repeated Dim dim = 2", "bool unknown_rank = 3"],
    "TensorProto": [
        "int32 dtype = 1",
        "TensorShapeProto tensor_shape = 2",
        "bytes tensor_content = 4",
        "repeated bytes float_val = 5",
        "repeated bytes double_val = 6",
        "repeated bytes int_val = 7",
    ],
    "InputsEntry": ["string key = 1", "TensorProto value = 2"],
    "PredictRequest": [
        "ModelSpec model_spec = 1",
        "repeated InputsEntry inputs = 2",
        "repeated string output_filter = 3",
    ],
    "PredictResponse": ["repeated InputsEntry outputs = 1", "ModelSpec model_spec = 2"],
    "GetModelMetadataRequest": ["ModelSpec model_spec = 1", "repeated string metadata_field = 2"],
    "MetadataEntry": ["string key = 1", "Any value = 2"],
    "GetModelMetadataResponse": ["ModelSpec model_spec = 1", "repeated MetadataEntry metadata = 2"],
    "TensorInfo": ["string name = 1", "int32 dtype = 2", "TensorShapeProto tensor_shape = 3"],
    "TensorInfoEntry": ["string key = 1", "TensorInfo value = 2"],
    "SignatureDef": [
        "repeated TensorInfoEntry inputs = 1",
        "repeated TensorInfoEntry outputs = 2",
        "string method_name = 3",
    ],
    "SignatureDefEntry": ["string key = 1", "SignatureDef value = 2"],
    "StatusProto": ["int32 error_code = 1", "string error_message = 2"],
    "ModelVersionStatus": ["int64 version = 1", "int32 state = 2", "StatusProto status = 3"],
    "GetModelStatusRequest": ["ModelSpec model_spec = 1"],
    "GetModelStatusResponse": ["repeated ModelVersionStatus model_version_status = 1"],
    "ReloadConfigRequest": ["bytes config = 1"],
    "ReloadConfigResponse": ["StatusProto status = 1"],
    "SignatureDefMap": ["repeated SignatureDefEntry signature_def = 1"],
}
# tensorflow/core/framework/types.proto
_DTYPE_NUMBERS = {"float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int16": 5, "int8": 6}
_DTYPES = {number: np.dtype(name) for name, number in _DTYPE_NUMBERS.items()}

_PACKAGE = "lung_ct_client"  # unlike TensorFlow's, whose generated classes may be in the same process
_Field = descriptor_pb2.FieldDescriptorProto


def _declare(schema: dict[str, list[str]]) -> dict[str, Any]:
    """Turn `[repeated] type name = number` lines into message classes, in a separate descriptor pool."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto3")
    for message_name, lines in schema.items():
        message = file.message_type.add(name=message_name)
        for line in lines:
            *repeated, kind, name, _, number = line.split()
            field = message.field.add(name=name, number=int(number))
            field.label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
            if kind in schema:
                field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                field.type = _Field.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in schema}


_messages = _declare(_SCHEMA)
ModelSpec = _messages["ModelSpec"]
TensorProto = _messages["TensorProto"]
PredictRequest = _messages["PredictRequest"]
PredictResponse = _messages["PredictResponse"]
GetModelMetadataRequest = _messages["GetModelMetadataRequest"]
GetModelMetadataResponse = _messages["GetModelMetadataResponse"]
GetModelStatusRequest = _messages["GetModelStatusRequest"]
GetModelStatusResponse = _messages["GetModelStatusResponse"]
ReloadConfigRequest = _messages["ReloadConfigRequest"]
ReloadConfigResponse = _messages["ReloadConfigResponse"]
SignatureDefMap = _messages["SignatureDefMap"]


class TensorError(ValueError):
    """A tensor of an unsupported type, or whose bytes do not fit its shape."""


def to_tensor(array: NDArray) -> Any:
    """Convert an array to a TensorProto with `tensor_content`: little-endian bytes in row-major order."""
    tensor = TensorProto(dtype=_DTYPE_NUMBERS[array.dtype.name], tensor_content=array.tobytes())
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


def to_array(tensor: Any) -> NDArray:
    """Convert a TensorProto with `tensor_content` or a typed field (`float_val`, `int_val`) to an array.

    As in TensorFlow, a typed field shorter than the shape repeats its last value.

    Raises:
        TensorError: The type is not supported, or the values do not fit the shape.
    """
    dtype = _DTYPES.get(tensor.dtype)
    if dtype is None:
        raise TensorError(f"tensor type number {tensor.dtype}: expected one of {sorted(_DTYPE_NUMBERS)}")
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    count = math.prod(shape)
    if tensor.tensor_content:
        values = _read_packed([tensor.tensor_content], dtype)
    elif dtype == np.float32:
        values = _read_packed(tensor.float_val, dtype)
    elif dtype == np.float64:
        values = _read_packed(tensor.double_val, dtype)
    else:
        values = _read_varints(b"".join(tensor.int_val)).astype(dtype)
    if not tensor.tensor_content and 0 < len(values) < count:
        values = np.concatenate([values, np.full(count - len(values), values[-1])])
    if len(values) != count:
        raise TensorError(f"tensor of shape {shape} holds {len(values)} values, expected {count}")
    return values.reshape(shape)


def _read_packed(chunks: Any, dtype: np.dtype) -> NDArray:
    """Read a packed field of fixed-size numbers."""
    data = b"".join(chunks)
    if len(data) % dtype.itemsize:
        raise TensorError(f"{len(data)} bytes: expected a multiple of {dtype.itemsize} for {dtype}")
    return np.frombuffer(data, dtype.newbyteorder("<"))


def _read_varints(data: bytes) -> NDArray[np.int64]:
    """Read a packed field of varints: seven bits per byte, lowest first; the eighth bit marks continuation."""
    octets = np.frombuffer(data, np.uint8)
    if not len(octets):
        return np.zeros(0, np.int64)
    last = octets < 0x80
    if not last[-1]:
        raise TensorError("truncated varint")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    byte_index = np.arange(len(octets)) - np.repeat(starts, ends - starts + 1)
    # Negative numbers take ten bytes; bits shifted past 63 are those that two's complement drops.
    parts = (octets & 0x7F).astype(np.uint64) << np.minimum(7 * byte_index, 63).astype(np.uint64)
    return np.bitwise_or.reduceat(parts, starts).astype(np.int64)
