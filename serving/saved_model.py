"""One SavedModel in memory, run by the messages of TF Serving's Predict."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.python.saved_model import loader_impl

from serving.refusal import Refusal, invalid

DEFAULT_SIGNATURE = "serving_default"
_MAX_TENSOR_BYTES = 2 << 30  # a protobuf cannot hold more, but a repeated single value can declare it
_STATUS_BY_NUMBER = {status.value[0]: status for status in grpc.StatusCode}


class SavedModel:
    """A version folder's SavedModel.

    Attributes:
        signatures: its SignatureDefs by name, as GetModelMetadata publishes them.
    """

    def __init__(self, folder: Path) -> None:
        (meta_graph,) = loader_impl.parse_saved_model(str(folder)).meta_graphs
        # TensorFlow's own bookkeeping, which is no signature to call.
        self.signatures = {
            name: signature
            for name, signature in meta_graph.signature_def.items()
            if not name.startswith("__saved_model")
        }
        self._loaded = tf.saved_model.load(str(folder))

    def run(self, signature_name: str, inputs: Mapping[str, Any], output_filter: Sequence[str]) -> dict[str, NDArray]:
        """Run one signature on TensorProtos by input name; all outputs, or those of `output_filter`.

        Raises:
            Refusal: The request does not fit the signature, or TensorFlow fails on it.
        """
        signature = self._signature(signature_name)
        _check_names(signature, inputs, output_filter)
        tensors = {name: _to_tensor(name, proto, signature.inputs[name]) for name, proto in inputs.items()}
        try:
            outputs = self._loaded.signatures[signature_name](**tensors)
        except tf.errors.OpError as error:
            # TensorFlow's error numbers are gRPC's.
            raise Refusal(_STATUS_BY_NUMBER[error.error_code], error.message) from error
        return {name: outputs[name].numpy() for name in output_filter or signature.outputs}

    def _signature(self, name: str) -> Any:
        if name not in self.signatures:
            raise invalid(f'Serving signature key "{name}" not found.')
        return self.signatures[name]


def _check_names(signature: Any, inputs: Mapping[str, Any], output_filter: Sequence[str]) -> None:
    """Compare the names in a request with the signature's, in the words of TF Serving's predict_util.cc."""
    sent, wanted = set(inputs), set(signature.inputs)
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


def _to_tensor(name: str, proto: Any, info: Any) -> tf.Tensor:
    """Check a TensorProto against what the signature takes, before anything of its size is allocated."""
    if proto.dtype != info.dtype:
        sent, wanted = (_dtype_name(number) for number in (proto.dtype, info.dtype))
        raise invalid(f"Expects {name} to be {wanted} but {sent} is provided")
    shape = [dim.size for dim in proto.tensor_shape.dim]
    wanted_shape = [dim.size for dim in info.tensor_shape.dim]
    if not info.tensor_shape.unknown_rank and not _fits(shape, wanted_shape):
        raise invalid(f"Expects {name} to have shape {_shown(wanted_shape)} but {_shown(shape)} is provided")
    dtype = tf.as_dtype(proto.dtype)
    if any(size < 0 for size in shape) or math.prod(shape) * dtype.size > _MAX_TENSOR_BYTES:
        raise invalid(f"tensor parsing error: {name} declares the shape {_shown(shape)}")
    try:
        return tf.constant(np.ascontiguousarray(tf.make_ndarray(proto)), dtype)
    except (TypeError, ValueError, tf.errors.OpError) as error:
        raise invalid(f"tensor parsing error: {name}") from error


def _fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    return len(shape) == len(wanted) and all(b in (-1, a) for a, b in zip(shape, wanted, strict=True))


def _dtype_name(number: int) -> str:
    try:
        return tf.as_dtype(number).name
    except TypeError:
        return f"type number {number}"


def _shown(shape: Sequence[int]) -> str:
    return "[" + ",".join("?" if size == -1 else str(size) for size in shape) + "]"


def _listed(names: set[str]) -> str:
    return ",".join(sorted(names))
