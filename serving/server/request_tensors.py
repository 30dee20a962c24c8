"""What a request sends, checked against the signature before anything of its size is allocated."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from serving.server.errors import invalid

_MAX_TENSOR_BYTES = 2 << 30  # a protobuf cannot hold more, but a repeated single value can declare it


def check_names(signature: Any, sent: Collection[str], output_filter: Sequence[str]) -> None:
    """Compare the names in a request with the signature's, in the words of TF Serving's predict_util.cc.

    Raises:
        RequestError: A name too many or too few.
    """
    sent, wanted = set(sent), set(signature.inputs)
    if len(sent) != len(wanted):
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(wanted)} len({{{_listed(sent)}}}) != "
            f"len({{{_listed(wanted)}}}). Sent extra: {{{_listed(sent - wanted)}}}. "
            f"Missing but required: {{{_listed(wanted - sent)}}}."
        )
    for name in sorted(sent - wanted):
        raise invalid(
            f"input tensor alias not found in signature: {name}. "
            f"Inputs expected to be in the set {{{_listed(wanted)}}}."
        )
    for name in output_filter:
        if name not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {name} "
                f"Outputs expected to be in the set {{{_listed(set(signature.outputs))}}}."
            )
        if output_filter.count(name) > 1:
            raise invalid(f"duplicate output tensor alias: {name}")


def arrays_from_protos(signature: Any, inputs: Mapping[str, Any]) -> dict[str, NDArray]:
    """Read TensorProtos by input name.

    Raises:
        RequestError: One is of another type or shape than the signature takes, or its bytes do not fit its shape.
    """
    return {name: _array(name, proto, signature.inputs[name]) for name, proto in inputs.items()}


def check_shape(name: str, shape: Sequence[int], info: Any) -> None:
    """Compare a shape with the one that a signature's TensorInfo takes, -1 being any."""
    wanted = [dim.size for dim in info.tensor_shape.dim]
    fits = len(shape) == len(wanted) and all(b in (-1, a) for a, b in zip(shape, wanted, strict=True))
    if not info.tensor_shape.unknown_rank and not fits:
        raise invalid(f"Expects {name} to have shape {_shown(wanted)} but {_shown(shape)} is provided")


def _array(name: str, proto: Any, info: Any) -> NDArray:
    if proto.dtype != info.dtype:
        sent, wanted = (_dtype_name(number) for number in (proto.dtype, info.dtype))
        raise invalid(f"Expects {name} to be {wanted} but {sent} is provided")
    shape = [dim.size for dim in proto.tensor_shape.dim]
    check_shape(name, shape, info)
    if any(size < 0 for size in shape) or math.prod(shape) * tf.as_dtype(proto.dtype).size > _MAX_TENSOR_BYTES:
        raise invalid(f"tensor parsing error: {name} declares the shape {_shown(shape)}")
    try:
        return np.ascontiguousarray(tf.make_ndarray(proto)).reshape(shape)
    except (TypeError, ValueError) as error:
        raise invalid(f"tensor parsing error: {name}") from error


def _dtype_name(number: int) -> str:
    try:
        return tf.as_dtype(number).name
    except TypeError:
        return f"type number {number}"


def _shown(shape: Sequence[int]) -> str:
    return "[" + ",".join("?" if size == -1 else str(size) for size in shape) + "]"


def _listed(names: set[str]) -> str:
    return ",".join(sorted(names))
