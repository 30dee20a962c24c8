"""One SavedModel in memory, and its signatures run on arrays."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.python.saved_model import loader_impl

from serving.server.errors import RequestError, invalid

DEFAULT_SIGNATURE = "serving_default"
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

    def signature(self, name: str) -> Any:
        """The SignatureDef of that name; `RequestError` where there is none."""
        if name not in self.signatures:
            raise invalid(f'Serving signature key "{name}" not found.')
        return self.signatures[name]

    def run(self, signature_name: str, inputs: Mapping[str, NDArray]) -> dict[str, NDArray]:
        """Run one signature on arrays by input name, of the types and shapes that it takes; all its outputs.

        Raises:
            RequestError: TensorFlow fails on them.
        """
        tensors = {name: tf.constant(array) for name, array in inputs.items()}
        try:
            outputs = self._loaded.signatures[signature_name](**tensors)
        except tf.errors.OpError as error:
            # TensorFlow's error numbers are gRPC's.
            raise RequestError(_STATUS_BY_NUMBER[error.error_code], error.message) from error
        return {name: tensor.numpy() for name, tensor in outputs.items()}
