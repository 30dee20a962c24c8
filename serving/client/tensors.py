"""numpy arrays to TF Serving's tensors and back, in both forms a server may answer in."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.client.messages import TensorProto

# tensorflow/core/framework/types.proto
_DTYPE_NUMBERS = {"float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int16": 5, "int8": 6}
_DTYPES = {number: np.dtype(name) for name, number in _DTYPE_NUMBERS.items()}


class TensorError(ValueError):
    """A tensor whose bytes do not fit its shape, or of a type that no signature here has."""


def to_tensor(array: NDArray) -> Any:
    """Make a TensorProto in `tensor_content` form: the array's own bytes, little-endian, row by row."""
    tensor = TensorProto(dtype=_DTYPE_NUMBERS[array.dtype.name], tensor_content=array.tobytes())
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


def to_array(tensor: Any) -> NDArray:
    """Read a TensorProto whether it holds `tensor_content` or the typed fields (`float_val`, `int_val`).

    As TensorFlow's own readers do, a typed field that is shorter than the shape repeats its last value.

    Raises:
        TensorError: The type is unknown here, or the values do not fit the shape.
    """
    dtype = _DTYPES.get(tensor.dtype)
    if dtype is None:
        raise TensorError(f"tensor type number {tensor.dtype} is not one of {sorted(_DTYPE_NUMBERS)}")
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    count = math.prod(shape)
    if tensor.tensor_content:
        values = _packed([tensor.tensor_content], dtype)
    elif dtype == np.float32:
        values = _packed(tensor.float_val, dtype)
    elif dtype == np.float64:
        values = _packed(tensor.double_val, dtype)
    else:
        values = _varints(b"".join(tensor.int_val)).astype(dtype)
    if not tensor.tensor_content and 0 < len(values) < count:
        values = np.concatenate([values, np.full(count - len(values), values[-1])])
    if len(values) != count:
        raise TensorError(f"tensor of shape {shape} holds {len(values)} values, expected {count}")
    return values.reshape(shape)


def _packed(chunks: Any, dtype: np.dtype) -> NDArray:
    """Read a packed field of fixed-size numbers."""
    data = b"".join(chunks)
    if len(data) % dtype.itemsize:
        raise TensorError(f"{len(data)} bytes are no whole number of {dtype} values")
    return np.frombuffer(data, dtype.newbyteorder("<"))


def _varints(data: bytes) -> NDArray[np.int64]:
    """Read a packed field of varints: seven bits a byte, the lowest first, the eighth bit says "go on"."""
    octets = np.frombuffer(data, np.uint8)
    if not len(octets):
        return np.zeros(0, np.int64)
    last = octets < 0x80
    if not last[-1]:
        raise TensorError("a packed integer is cut short")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(len(octets)) - np.repeat(starts, ends - starts + 1)
    # Negative numbers take ten bytes; the shift past 63 bits drops what two's complement drops.
    parts = (octets & 0x7F).astype(np.uint64) << np.minimum(7 * place, 63).astype(np.uint64)
    return np.bitwise_or.reduceat(parts, starts).astype(np.int64)
