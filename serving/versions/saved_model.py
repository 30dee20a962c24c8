"""Load a version's SavedModel and run its signatures on numpy arrays."""

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.python.saved_model import loader_impl

from serving.versions.contract import GRID_SIGNATURE, INPUT, MAX_PIXELS, PROBABILITY, THRESHOLD
from serving.versions.manifest import is_exported, verify
from serving.versions.signing import verify_signature

DEFAULT_SIGNATURE = "serving_default"
_log = logging.getLogger(__name__)


class SignatureError(ValueError):
    """A missing signature, or a signature `network` that does not segment slices."""


def load_verified(folder: Path, public_key: Path | None = None) -> "SavedModel":
    """Load a version, after comparing its files with its manifest and, if a key is given, with its signature.

    Other exporters write no manifest; their files are not compared.

    Raises:
        InputError: The files differ from the manifest or the signature, or one of them is missing.
    """
    if public_key is not None:
        verify_signature(folder, public_key)
    if is_exported(folder):
        verify(folder)
    else:
        _log.warning("%s: has no manifest: changed files would not be noticed", folder)
    return SavedModel(folder)


class SavedModel:
    """A SavedModel in memory.

    Attributes:
        signatures: SignatureDef by name, as GetModelMetadata publishes them.
    """

    def __init__(self, folder: Path) -> None:
        (meta_graph,) = loader_impl.parse_saved_model(str(folder)).meta_graphs
        definitions = meta_graph.signature_def.items()
        # The prefix marks TensorFlow's own bookkeeping.
        self.signatures = {name: value for name, value in definitions if not name.startswith("__saved_model")}
        self._loaded = tf.saved_model.load(str(folder))

    def signature(self, name: str) -> Any:
        """Return a SignatureDef by name, or raise `SignatureError`."""
        if name not in self.signatures:
            raise SignatureError(f'Serving signature key "{name}" not found.')
        return self.signatures[name]

    def run(self, signature_name: str, inputs: Mapping[str, NDArray]) -> dict[str, NDArray]:
        """Run one signature on arrays by input name and return its outputs by name.

        Raises:
            tf.errors.OpError: TensorFlow rejects the arrays or fails on them.
        """
        tensors = {name: tf.constant(array) for name, array in inputs.items()}
        outputs = self._loaded.signatures[signature_name](**tensors)
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    @cached_property
    def image_size(self) -> int:
        """Edge of the grid of signature `network`; raises `SignatureError` without a fixed grid."""
        (info,) = self.signature(GRID_SIGNATURE).inputs.values()
        sizes = [dim.size for dim in info.tensor_shape.dim]
        if len(sizes) != 3 or sizes[1] != sizes[2] or sizes[1] < 1:
            raise SignatureError(f"signature {GRID_SIGNATURE} takes {sizes}; expected (n, size, size)")
        return int(sizes[1])

    def pixel_problem(self, shapes: Mapping[str, Sequence[int]]) -> str:
        """Say that the slices of a request exceed the contract's limit; empty if not, or for a model of another kind.

        The exported graph has the same check (components.export.signatures).
        """
        shape = shapes.get(INPUT, ())
        try:
            size = self.image_size if len(shape) == 3 else 0
        except (SignatureError, ValueError):
            size = 0
        if not size or shape[0] * max(shape[1], size) * max(shape[2], size) <= MAX_PIXELS:
            return ""
        return (
            f"{INPUT} has shape {list(shape)}; expected at most {MAX_PIXELS} pixels, where a slice counts at least "
            f"{size}x{size}; send fewer slices in a request"
        )

    @cached_property
    def threshold(self) -> float:
        """Probability at or above which the model marks a pixel as lesion."""
        return self._predict(np.zeros((1, self.image_size, self.image_size), np.int16))[1]

    def lesion_probability(self, slices_hu: NDArray[np.int16]) -> NDArray[np.float32]:
        """Run signature `network` on (n, size, size) HU; raises `SignatureError` for other outputs."""
        return self._predict(slices_hu)[0]

    def _predict(self, slices_hu: NDArray[np.int16]) -> tuple[NDArray[np.float32], float]:
        ((name, info),) = self.signature(GRID_SIGNATURE).inputs.items()
        outputs = self.run(GRID_SIGNATURE, {name: slices_hu.astype(tf.as_dtype(info.dtype).as_numpy_dtype)})
        try:
            return outputs[PROBABILITY].reshape(slices_hu.shape), float(outputs[THRESHOLD].flat[0])
        except (KeyError, ValueError, IndexError) as error:
            raise SignatureError(
                f"signature {GRID_SIGNATURE} returns {', '.join(sorted(outputs))}; expected {PROBABILITY} of the "
                f"input's shape and {THRESHOLD}"
            ) from error
