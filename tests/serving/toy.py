"""A toy network with the signatures of the exported model, simple enough to verify by hand."""

from pathlib import Path

import numpy as np

SIZE = 16  # edge of the toy network's grid
THRESHOLD = 0.25
MODEL = "toy"


def toy_probability(slices_hu: np.ndarray) -> np.ndarray:
    """The toy network in numpy: 0 at -1250 HU, 1 at 250 HU, linear."""
    return np.clip((slices_hu.astype(np.float32) + 1250) / 1500, 0, 1)


def save_toy_model(
    folder: Path, size: int = SIZE, threshold: float = THRESHOLD, gain: float = 1.0, work: int = 0
) -> None:
    """Write a SavedModel whose probability is `gain` times that of `toy_probability`.

    `work` slows it down: the number of 200×200 matrix products, about half a millisecond each.
    """
    import tensorflow as tf

    class Toy(tf.Module):
        def segment(self, slices_hu):
            scaled = (tf.cast(slices_hu, tf.float32) + 1250.0) / 1500.0
            probability = gain * tf.clip_by_value(scaled, 0.0, 1.0)
            if work:
                matrix = tf.fill((200, 200), tf.reduce_mean(scaled) * 1e-20)
                for _ in tf.range(work):
                    matrix = tf.matmul(matrix, matrix)
                probability += matrix[0, 0]  # 0, which the graph compiler does not know
            return {
                "lesion_probability": probability,
                "lesion_mask": tf.cast(probability >= threshold, tf.uint8),
                "threshold": tf.fill(tf.shape(slices_hu)[:1], threshold),
            }

    toy = Toy()
    signatures = {
        name: tf.function(toy.segment).get_concrete_function(tf.TensorSpec(shape, tf.int16, name="slices_hu"))
        for name, shape in {"network": (None, size, size), "serving_default": (None, None, None)}.items()
    }
    tf.saved_model.save(toy, str(folder), signatures=signatures)
