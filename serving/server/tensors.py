"""TensorProtos to numpy arrays and back; requests are checked before memory of the declared size is allocated."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from serving.server.errors import invalid_argument

_MAX_TENSOR_BYTES = 2 << 30  # a protobuf cannot hold more, but one repeated value can declare it
_FIELDS = {
    "float32": "float_val",
    "float64": "double_val",
    **dict.fromkeys(("int8", "uint8", "int16", "uint16", "int32"), "int_val"),
    "int64": "int64_val",
    "bool": "bool_val",
}


def check_names(signature: Any, inputs: Collection[str], output_filter: Sequence[str]) -> None:
    """Compare a request's input and output names with the signature; messages as in TF Serving's predict_util.cc.

    Raises:
        RequestError: A name is missing, unknown or repeated.
    """
    actual, expected = set(inputs), set(signature.inputs)
    if len(actual) != len(expected):
        raise invalid_argument(
            f"input size does not match signature: {len(actual)}!={len(expected)} len({{{_join(actual)}}}) != "
            f"len({{{_join(expected)}}}). Sent extra: {{{_join(actual - expected)}}}. "
            f"Missing but required: {{{_join(expected - actual)}}}."
        )
    for name in sorted(actual - expected):
        raise invalid_argument(
            f"input tensor alias not found in signature: {name}. "
            f"Inputs expected to be in the set {{{_join(expected)}}}."
        )
    for name in output_filter:
        if name not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {name} "
                f"Outputs expected to be in the set {{{_join(set(signature.outputs))}}}."
            )
        if output_filter.count(name) > 1:
            raise invalid_argument(f"duplicate output tensor alias: {name}")


def check_shape(name: str, shape: Sequence[int], info: Any) -> None:
    """Compare a shape with a signature's TensorInfo, where -1 is any size; raise `RequestError` on a mismatch."""
    expected = [dim.size for dim in info.tensor_shape.dim]
    fits = len(shape) == len(expected) and all(b in (-1, a) for a, b in zip(shape, expected, strict=True))
    if not info.tensor_shape.unknown_rank and not fits:
        raise invalid_argument(
            f"Expects {name} to have shape {_format_shape(expected)} but {_format_shape(shape)} is provided"
        )


def read_tensors(signature: Any, inputs: Mapping[str, Any]) -> dict[str, NDArray]:
    """Read TensorProtos by input name.

    Raises:
        RequestError: A dtype or shape differs from the signature, or the values do not fill the shape.
    """
    return {name: _read_tensor(name, proto, signature.inputs[name]) for name, proto in inputs.items()}


def write_as_content(array: NDArray, proto: Any) -> None:
    """Write a tensor as bytes (TF Serving: `--enable_serialization_as_tensor_content`)."""
    _write_header(array, proto)
    proto.tensor_content = array.tobytes()


def write_as_fields(array: NDArray, proto: Any) -> None:
    """Write a tensor as typed numbers, TF Serving's default."""
    _write_header(array, proto)
    field = _FIELDS[array.dtype.name]
    if array.dtype == np.float32 or (array.dtype.kind in "bu" and array.itemsize == 1 and (array < 128).all()):
        # These bytes equal the packed field; merging them avoids a Python object per number.
        data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        number = proto.DESCRIPTOR.fields_by_name[field].number
        proto.MergeFromString(bytes([number << 3 | 2]) + _encode_varint(len(data)) + data)
    else:
        getattr(proto, field).extend(array.ravel().tolist())


def _read_tensor(name: str, proto: Any, info: Any) -> NDArray:
    if proto.dtype != info.dtype:
        actual, expected = (_dtype_name(number) for number in (proto.dtype, info.dtype))
        raise invalid_argument(f"Expects {name} to be {expected} but {actual} is provided")
    shape = [dim.size for dim in proto.tensor_shape.dim]
    check_shape(name, shape, info)
    if any(size < 0 for size in shape) or math.prod(shape) * tf.as_dtype(proto.dtype).size > _MAX_TENSOR_BYTES:
        raise invalid_argument(f"tensor parsing error: {name} declares the shape {_format_shape(shape)}")
    try:
        return np.ascontiguousarray(tf.make_ndarray(proto)).reshape(shape)
    except (TypeError, ValueError) as error:
        raise invalid_argument(f"tensor parsing error: {name}") from error


def _write_header(array: NDArray, proto: Any) -> None:
    proto.dtype = tf.as_dtype(array.dtype).as_datatype_enum
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)


def _dtype_name(number: int) -> str:
    try:
        return tf.as_dtype(number).name
    except TypeError:
        return f"type number {number}"


def _format_shape(shape: Sequence[int]) -> str:
    return "[" + ",".join("?" if size == -1 else str(size) for size in shape) + "]"


def _join(names: set[str]) -> str:
    return ",".join(sorted(names))


def _encode_varint(n: int) -> bytes:
    octets = bytearray()
    while n >= 0x80:
        octets.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes([*octets, n])
