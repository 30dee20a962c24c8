"""Arrays into a reply's tensors, in the two forms that TF Serving has."""

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

_FIELDS = {
    "float32": "float_val",
    "float64": "double_val",
    "int8": "int_val",
    "uint8": "int_val",
    "int16": "int_val",
    "uint16": "int_val",
    "int32": "int_val",
    "int64": "int64_val",
    "bool": "bool_val",
}


def write_as_content(array: NDArray, proto: Any) -> None:
    """Write a tensor as one block of bytes (TF Serving: `--enable_serialization_as_tensor_content`)."""
    _declare(array, proto)
    proto.tensor_content = array.tobytes()


def write_as_fields(array: NDArray, proto: Any) -> None:
    """Write a tensor as typed numbers, TF Serving's default."""
    _declare(array, proto)
    field = getattr(proto, _FIELDS[array.dtype.name])
    number = proto.DESCRIPTOR.fields_by_name[_FIELDS[array.dtype.name]].number
    if array.dtype == np.float32 or (array.dtype.kind in "bu" and array.itemsize == 1 and (array < 128).all()):
        # These bytes are already the packed field's: merging them spares a Python object for each number.
        data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        proto.MergeFromString(bytes([number << 3 | 2]) + _varint(len(data)) + data)
    else:
        field.extend(array.ravel().tolist())


def _declare(array: NDArray, proto: Any) -> None:
    proto.dtype = tf.as_dtype(array.dtype).as_datatype_enum
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)


def _varint(n: int) -> bytes:
    octets = bytearray()
    while n >= 0x80:
        octets.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes([*octets, n])
