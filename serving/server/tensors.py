"""TensorProtos to numpy arrays and back. A request's size is checked before memory of that size is allocated."""

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import chain, repeat
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from serving.server.errors import invalid_argument

# Inputs and outputs of one request: 146 slices of 512×512 int16 with a float32 and a uint8 output.
MAX_REQUEST_BYTES = 256 << 20
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


def request_bytes(signature: Any, shapes: Mapping[str, Sequence[int]]) -> int:
    """Return the size of a request's inputs and of its outputs, whose free axes are taken to be those of the inputs.

    Raises:
        RequestError: It exceeds `MAX_REQUEST_BYTES`.
    """
    total = sum(math.prod(shape) * _item_bytes(signature.inputs[name].dtype) for name, shape in shapes.items())
    largest = max(shapes.values(), key=math.prod, default=())
    for info in signature.outputs.values():
        axes = zip(info.tensor_shape.dim, chain(largest, repeat(1)), strict=False)
        shape = (
            largest if info.tensor_shape.unknown_rank else [same if dim.size < 0 else dim.size for dim, same in axes]
        )
        total += math.prod(shape) * _item_bytes(info.dtype)
    if total > MAX_REQUEST_BYTES:
        raise invalid_argument(
            f"inputs of shape {', '.join(map(_format_shape, shapes.values()))} and their outputs take {total} bytes; "
            f"expected at most {MAX_REQUEST_BYTES}; send fewer slices per request"
        )
    return total


def read_tensors(signature: Any, inputs: Mapping[str, Any]) -> dict[str, NDArray]:
    """Read TensorProtos by input name; an array of one repeated value takes the memory of that value.

    Raises:
        RequestError: A dtype or shape differs from the signature, the values do not fit the dtype or the shape, or the
            request is too large.
    """
    shapes = {name: _checked_shape(name, proto, signature.inputs[name]) for name, proto in inputs.items()}
    request_bytes(signature, shapes)
    return {name: _read_tensor(name, proto, shapes[name]) for name, proto in inputs.items()}


def write_as_content(array: NDArray, proto: Any) -> None:
    """Write a tensor as bytes (TF Serving: `--enable_serialization_as_tensor_content`)."""
    if array.dtype.kind == "O":  # strings have no fixed size
        write_as_fields(array, proto)
        return
    _write_header(array, proto)
    proto.tensor_content = array.tobytes()


def write_as_fields(array: NDArray, proto: Any) -> None:
    """Write a tensor as typed numbers, TF Serving's default; rare dtypes as TensorFlow writes them, in bytes."""
    field = _FIELDS.get(array.dtype.name)
    if field is None:
        proto.CopyFrom(tf.make_tensor_proto(array))
        return
    _write_header(array, proto)
    if array.dtype == np.float32 or (array.dtype.kind in "bu" and array.itemsize == 1 and (array < 128).all()):
        # These bytes equal the packed field; merging them avoids a Python object per number.
        data = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        number = proto.DESCRIPTOR.fields_by_name[field].number
        proto.MergeFromString(b"".join([bytes([number << 3 | 2]), _encode_varint(data.nbytes), data.data]))
    else:
        getattr(proto, field).extend(array.ravel().tolist())


def _checked_shape(name: str, proto: Any, info: Any) -> list[int]:
    """Return the shape of a TensorProto whose dtype and shape agree with the signature."""
    if proto.dtype != info.dtype:
        actual, expected = (_dtype_name(number) for number in (proto.dtype, info.dtype))
        raise invalid_argument(f"Expects {name} to be {expected} but {actual} is provided")
    shape = [dim.size for dim in proto.tensor_shape.dim]
    check_shape(name, shape, info)
    if any(size < 0 for size in shape) or proto.tensor_shape.unknown_rank:
        raise invalid_argument(f"tensor parsing error: {name} declares the shape {_format_shape(shape)}")
    return shape


def _read_tensor(name: str, proto: Any, shape: list[int]) -> NDArray:
    values = max((len(value) for field, value in proto.ListFields() if field.name.endswith("_val")), default=0)
    per_item = 2 if tf.as_dtype(proto.dtype).is_complex else 1
    # Before `make_ndarray` copies them: a small shape may come with any number of values.
    if values > math.prod(shape) * per_item or len(proto.tensor_content) > math.prod(shape) * _item_bytes(proto.dtype):
        raise invalid_argument(f"tensor parsing error: {name}")
    try:
        if proto.tensor_content or values > 1:
            return np.ascontiguousarray(tf.make_ndarray(proto)).reshape(shape)
        scalar = type(proto)()
        scalar.CopyFrom(proto)
        scalar.tensor_shape.Clear()
        return np.broadcast_to(tf.make_ndarray(scalar), shape)  # as TensorFlow fills it, or with zeros
    except (TypeError, ValueError, OverflowError) as error:
        raise invalid_argument(f"tensor parsing error: {name}") from error


def _write_header(array: NDArray, proto: Any) -> None:
    proto.dtype = tf.as_dtype(array.dtype).as_datatype_enum
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)


def _item_bytes(dtype: int) -> int:
    return max(tf.as_dtype(dtype).size or 0, 1)


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
