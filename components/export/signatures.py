"""The two ways to call a served model, as graphs around one network.

`network` takes slices that a client has fitted to the grid itself; `serving_default` takes slices of any size
and does the map of `components.ct.grid` in the graph. Both answer with the same three tensors.
"""

from pathlib import Path

import tensorflow as tf

from components.ct.grid import AIR_HU, TIE_BREAK_HU
from serving.versions.tensor_names import ANY_SIZE_SIGNATURE, GRID_SIGNATURE, INPUT, MASK, PROBABILITY, THRESHOLD


class ServedModel(tf.Module):
    """A network with its threshold, exported with the signatures `network` and `serving_default`.

    Args:
        network: takes (n, size, size) HU, gives lesion probabilities of that shape, both float32.
        size: edge of the network's grid.
        threshold: probability from which on a pixel counts as lesion.
    """

    def __init__(self, network: tf.keras.Model, size: int, threshold: float):
        super().__init__()
        self.network = network
        self.size = size
        self.threshold = threshold

    def save(self, folder: Path) -> None:
        """Write the SavedModel."""
        signatures = {
            GRID_SIGNATURE: tf.function(self.on_grid).get_concrete_function(
                tf.TensorSpec((None, self.size, self.size), tf.int16, name=INPUT)
            ),
            ANY_SIZE_SIGNATURE: tf.function(self.on_any_size).get_concrete_function(
                tf.TensorSpec((None, None, None), tf.int16, name=INPUT)
            ),
        }
        tf.saved_model.save(self, str(folder), signatures=signatures)

    def on_grid(self, slices_hu: tf.Tensor) -> dict[str, tf.Tensor]:
        """Segment (n, size, size) int16 HU on the grid."""
        return self._answer(self._probability(tf.cast(slices_hu, tf.float32)))

    def on_any_size(self, slices_hu: tf.Tensor) -> dict[str, tf.Tensor]:
        """Segment (n, h, w) int16 HU; the answer lies on the slices' own pixels."""
        height, width = tf.shape(slices_hu)[1], tf.shape(slices_hu)[2]
        rows, columns = _content(height, width, self.size)
        top, left = (self.size - rows) // 2, (self.size - columns) // 2
        fitted = _both_axes(
            tf.cast(slices_hu, tf.float32), resampling_matrix(height, rows), resampling_matrix(width, columns)
        )
        around = [[0, 0], [top, self.size - rows - top], [left, self.size - columns - left]]
        # Rounded, as a client that sends int16 to `network` does.
        grid = tf.round(tf.pad(fitted, around, constant_values=float(AIR_HU)) + TIE_BREAK_HU)
        probability = self._probability(tf.ensure_shape(grid, (None, self.size, self.size)))
        content = probability[:, top : top + rows, left : left + columns]
        return self._answer(_both_axes(content, resampling_matrix(rows, height), resampling_matrix(columns, width)))

    def _probability(self, slices_hu: tf.Tensor) -> tf.Tensor:
        return self.network(slices_hu, training=False)

    def _answer(self, probability: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            PROBABILITY: probability,
            MASK: tf.cast(probability >= self.threshold, tf.uint8),
            # One for each slice: TF Serving's batching splits every output along its first axis.
            THRESHOLD: tf.fill(tf.shape(probability)[:1], tf.constant(self.threshold, tf.float32)),
        }


def resampling_matrix(n_from: tf.Tensor, n_to: tf.Tensor) -> tf.Tensor:
    """The graph's `components.ct.grid.resampling_matrix`: (n_to, n_from) float32."""
    length_from, length_to = tf.cast(n_from, tf.float64), tf.cast(n_to, tf.float64)
    step = length_from / length_to
    source = tf.range(length_from, dtype=tf.float64)
    target = tf.range(length_to, dtype=tf.float64)[:, None]
    overlap = tf.minimum((target + 1) * step, source + 1) - tf.maximum(target * step, source)
    center = tf.clip_by_value((target + 0.5) * step - 0.5, 0.0, length_from - 1)
    weights = tf.where(n_to <= n_from, tf.maximum(overlap, 0) / step, tf.maximum(1 - tf.abs(center - source), 0))
    return tf.cast(weights, tf.float32)


def _content(height: tf.Tensor, width: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    scale = size / tf.cast(tf.maximum(height, width), tf.float64)
    rows = tf.cast(tf.round(tf.cast(height, tf.float64) * scale), tf.int32)
    columns = tf.cast(tf.round(tf.cast(width, tf.float64) * scale), tf.int32)
    return tf.maximum(rows, 1), tf.maximum(columns, 1)


def _both_axes(slices: tf.Tensor, down: tf.Tensor, across: tf.Tensor) -> tf.Tensor:
    return tf.matmul(down, tf.matmul(slices, across, transpose_b=True))
