"""The exported SavedModel: two signatures around one network, and the warm-up requests.

`network` takes slices already fitted to the grid; `serving_default` takes slices of any size and applies the map of
`components.ct.grid` in the graph. Both return the same three tensors.

A request of a few bytes can declare any shape, since a TensorProto may repeat one value. The graph therefore checks the
shape before it computes, and takes the slices in chunks: memory beyond inputs and outputs does not grow with them.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

from components.ct.grid import AIR_HU, MAX_EDGE, TIE_BREAK_HU
from components.ct.inference import BATCH_SIZE
from components.slice.full_disk import translate_disk_errors
from serving.versions.contract import (
    ANY_SIZE_SIGNATURE,
    GRID_SIGNATURE,
    INPUT,
    MASK,
    MAX_PIXELS,
    PROBABILITY,
    THRESHOLD,
)
from serving.versions.layout import WARMUP_FILE

_CT_SLICE_EDGE = 512  # pixels, as scanners write slices


class ServedModel(tf.Module):
    """A network and its threshold, with the signatures `network` and `serving_default`.

    Args:
        network: maps (n, size, size) float32 HU to lesion probabilities of that shape.
        size: edge of the network's grid.
        threshold: probability from which a pixel counts as lesion.
    """

    def __init__(self, network: tf.keras.Model, size: int, threshold: float):
        super().__init__()
        self.network = network
        self.size = size
        self.threshold = threshold

    def save(self, folder: Path) -> None:
        """Write the SavedModel."""
        signatures = {
            name: tf.function(function).get_concrete_function(tf.TensorSpec(shape, tf.int16, name=INPUT))
            for name, function, shape in (
                (GRID_SIGNATURE, self.on_grid, (None, self.size, self.size)),
                (ANY_SIZE_SIGNATURE, self.on_any_size, (None, None, None)),
            )
        }
        with translate_disk_errors():
            tf.saved_model.save(self, str(folder), signatures=signatures)

    def on_grid(self, slices_hu: tf.Tensor) -> dict[str, tf.Tensor]:
        """Segment (n, size, size) int16 HU on the grid."""
        return self._outputs(self._map_chunks(self._predict, slices_hu))

    def on_any_size(self, slices_hu: tf.Tensor) -> dict[str, tf.Tensor]:
        """Segment (n, height, width) int16 HU on the slices' own pixels."""
        return self._outputs(self._map_chunks(self._predict_native, slices_hu))

    def _predict(self, slices_hu: tf.Tensor) -> tf.Tensor:
        grid = tf.ensure_shape(tf.cast(slices_hu, tf.float32), (None, self.size, self.size))
        return self.network(grid, training=False)

    def _predict_native(self, slices_hu: tf.Tensor) -> tf.Tensor:
        height, width = tf.shape(slices_hu)[1], tf.shape(slices_hu)[2]
        rows, columns = _content_shape(height, width, self.size)
        top, left = (self.size - rows) // 2, (self.size - columns) // 2
        content = _resample(
            tf.cast(slices_hu, tf.float32), resampling_matrix(height, rows), resampling_matrix(width, columns)
        )
        padding = [[0, 0], [top, self.size - rows - top], [left, self.size - columns - left]]
        # Rounded, like the int16 slices that a client sends to `network`.
        probability = self._predict(tf.round(tf.pad(content, padding, constant_values=float(AIR_HU)) + TIE_BREAK_HU))
        content = probability[:, top : top + rows, left : left + columns]
        return _resample(content, resampling_matrix(rows, height), resampling_matrix(columns, width))

    def _map_chunks(self, predict: Callable[[tf.Tensor], tf.Tensor], slices_hu: tf.Tensor) -> tf.Tensor:
        """Check the shape of (n, height, width) slices, and predict `BATCH_SIZE` of them at a time."""
        with tf.control_dependencies(_shape_checks(tf.shape(slices_hu), self.size)):
            slices_hu = tf.identity(slices_hu)
        n_chunks = -(-tf.shape(slices_hu)[0] // BATCH_SIZE)
        chunks = tf.TensorArray(tf.float32, n_chunks, infer_shape=False, element_shape=(None, None, None))

        def add_chunk(index: tf.Tensor, chunks: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            chunk = slices_hu[index * BATCH_SIZE : (index + 1) * BATCH_SIZE]
            return index + 1, chunks.write(index, predict(chunk))

        # By default, ten iterations may run at once.
        _, chunks = tf.while_loop(lambda index, _: index < n_chunks, add_chunk, (0, chunks), parallel_iterations=1)
        return tf.ensure_shape(chunks.concat(), slices_hu.shape)

    def _outputs(self, probability: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            PROBABILITY: probability,
            MASK: tf.cast(probability >= self.threshold, tf.uint8),
            # One per slice: TF Serving's batching splits every output along its first axis.
            THRESHOLD: tf.fill(tf.shape(probability)[:1], tf.constant(self.threshold, tf.float32)),
        }


def write_warmup_requests(
    saved_model: Path, model_name: str, size: int, batch_sizes: tuple[int, ...] = (1, 32)
) -> None:
    """Write the requests that TensorFlow Serving runs before it serves a version; the first client then need not wait.

    There is one `network` request for each batch size and one `serving_default` request.
    """
    path = saved_model / WARMUP_FILE
    path.parent.mkdir(exist_ok=True)
    requests = [(GRID_SIGNATURE, (batch, size, size)) for batch in batch_sizes]
    requests.append((ANY_SIZE_SIGNATURE, (1, _CT_SLICE_EDGE, _CT_SLICE_EDGE)))
    with translate_disk_errors(), tf.io.TFRecordWriter(str(path)) as writer:
        for signature, shape in requests:
            request = predict_pb2.PredictRequest(
                model_spec=model_pb2.ModelSpec(name=model_name, signature_name=signature),
                inputs={INPUT: tf.make_tensor_proto(np.full(shape, AIR_HU, np.int16))},
            )
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())


def resampling_matrix(n_from: tf.Tensor, n_to: tf.Tensor) -> tf.Tensor:
    """`components.ct.grid.resampling_matrix` in the graph: (n_to, n_from) float32."""
    length_from, length_to = tf.cast(n_from, tf.float64), tf.cast(n_to, tf.float64)
    step = length_from / length_to
    source = tf.range(length_from, dtype=tf.float64)
    target = tf.range(length_to, dtype=tf.float64)[:, None]
    overlap = tf.minimum((target + 1) * step, source + 1) - tf.maximum(target * step, source)
    center = tf.clip_by_value((target + 0.5) * step - 0.5, 0.0, length_from - 1)
    weights = tf.where(n_to <= n_from, tf.maximum(overlap, 0) / step, tf.maximum(1 - tf.abs(center - source), 0))
    return tf.cast(weights, tf.float32)


def _shape_checks(shape: tf.Tensor, size: int) -> list[tf.Operation]:
    """Return the operations that fail unless (n, height, width) slices are within the limits of the contract."""
    edges, cells = shape[1:], tf.constant([size, size])
    pixels = tf.reduce_prod(tf.cast(tf.concat([shape[:1], tf.maximum(edges, cells)], 0), tf.float64))
    return [
        tf.debugging.Assert(condition, [tf.strings.format(message, (shape,))])
        for condition, message in (
            (
                tf.reduce_all(shape >= 1) & tf.reduce_all(edges <= MAX_EDGE),
                f"{INPUT} has shape {{}}; expected one slice or more, of 1 to {MAX_EDGE} rows and columns; crop or "
                "resample the slices",
            ),
            (
                pixels <= MAX_PIXELS,
                f"{INPUT} has shape {{}}; expected at most {MAX_PIXELS} pixels, where a slice counts at least "
                f"{size}x{size}; send fewer slices in a request",
            ),
        )
    ]


def _content_shape(height: tf.Tensor, width: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    scale = size / tf.cast(tf.maximum(height, width), tf.float64)
    rows = tf.cast(tf.round(tf.cast(height, tf.float64) * scale), tf.int32)
    columns = tf.cast(tf.round(tf.cast(width, tf.float64) * scale), tf.int32)
    return tf.maximum(rows, 1), tf.maximum(columns, 1)


def _resample(slices: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    return tf.matmul(rows, tf.matmul(slices, columns, transpose_b=True))
