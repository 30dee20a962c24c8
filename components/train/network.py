"""The 2-D U-Net, from slices in Hounsfield units to lesion probabilities, and how a trained one is loaded.

Made of Keras layers and `keras.ops` alone, so that it runs on any of Keras' backends.
"""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
from keras import layers

from components.ct.intensity import WINDOW_HU
from components.runtime.errors import InputError

_PACKAGE = "lung_ct"


@keras.saving.register_keras_serializable(_PACKAGE)
class WindowHU(layers.Layer):
    """Scale a window of Hounsfield units to 0 to 1 (or to `top`), and clip what lies outside.

    Always computes in float32: bfloat16 tells HU values of lung tissue apart in steps of 4 only.
    """

    def __init__(self, lower_hu: float, upper_hu: float, top: float = 1.0, **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.lower_hu = lower_hu
        self.upper_hu = upper_hu
        self.top = top

    def call(self, slices_hu: Any) -> Any:
        """Window slices of any shape."""
        share = (slices_hu - self.lower_hu) / (self.upper_hu - self.lower_hu)
        return keras.ops.clip(share, 0.0, 1.0) * self.top

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Both ends of the window, and what they become."""
        return {**super().get_config(), "lower_hu": self.lower_hu, "upper_hu": self.upper_hu, "top": self.top}


@keras.saving.register_keras_serializable(_PACKAGE)
class FusedBatchNormalization(layers.BatchNormalization):
    """Batch normalization over the last axis; on TensorFlow it trains through the fused kernel.

    Keras composes the same sums of a dozen float32 operations. On a CPU that costs as much time as half of the
    network's convolutions; the fused kernel reads bfloat16 once and costs a tenth of them.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalize by the batch's own statistics in training, by the moving ones otherwise."""
        if not training or keras.backend.backend() != "tensorflow":
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma,
            offset=self.beta,
            mean=tf.constant([], tf.float32),
            variance=tf.constant([], tf.float32),
            epsilon=self.epsilon,
            is_training=True,
        )
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1 - self.momentum))
        return outputs


def build_network(
    image_size: int,
    *,
    filters: Sequence[int] = (16, 32, 64, 128, 256),
    window_hu: tuple[float, float] | None = WINDOW_HU,
    window_max: float = 1.0,
    batch_norm: bool = True,
    dtype: str = "float32",
) -> keras.Model:
    """Build an untrained U-Net (Ronneberger et al., 2015) with He initialization (He et al., 2015).

    Args:
        image_size: edge of the grid, divisible by 2 for each level but the first.
        filters: of each level, from the full grid down.
        window_hu: the window that becomes 0 to `window_max`; None feeds raw values.
        window_max: 1, or 255 as in an 8-bit picture.
        batch_norm: normalize after each 3×3 convolution.
        dtype: policy of the inner layers, such as "mixed_bfloat16"; weights and answer are always float32.

    Returns:
        A model that takes (n, image_size, image_size) slices in HU, or the same with a last axis of 1, and
        gives lesion probabilities (n, image_size, image_size) float32.

    Raises:
        InputError: the grid cannot be halved so often.
    """
    if image_size % (multiple := 2 ** (len(filters) - 1)):
        raise InputError(f"image_size is {image_size}; filters of {len(filters)} levels need a multiple of {multiple}")
    slices_hu = keras.Input((image_size, image_size), name="slices_hu", dtype="float32")
    x = layers.Reshape((image_size, image_size, 1), dtype="float32")(slices_hu)
    if window_hu is not None:
        x = WindowHU(*window_hu, window_max, name="window")(x)
    passed_on = []
    for width in filters[:-1]:
        x = _convolve_twice(x, width, batch_norm, dtype)
        passed_on.append(x)
        x = layers.MaxPooling2D(2, dtype=dtype)(x)
    x = _convolve_twice(x, filters[-1], batch_norm, dtype)
    for width, finer in zip(filters[-2::-1], reversed(passed_on), strict=True):
        x = layers.Conv2DTranspose(width, 2, strides=2, kernel_initializer="he_normal", dtype=dtype)(x)
        x = layers.Concatenate(dtype=dtype)([x, finer])
        x = _convolve_twice(x, width, batch_norm, dtype)
    x = layers.Conv2D(1, 1, activation="sigmoid", dtype="float32", name="probability")(x)
    return keras.Model(slices_hu, layers.Reshape((image_size, image_size), dtype="float32")(x), name="unet")


def flip_averaged(network: keras.Model) -> keras.Model:
    """The network that answers with the mean of its answers for a slice and for the slice's mirror image.

    The lungs are nearly symmetric, so that both are fair questions. It costs each answer twice its time, and no time
    in training.
    """
    slices_hu = keras.Input(network.input_shape[1:], name="slices_hu", dtype="float32")
    mirrored = keras.ops.flip(network(keras.ops.flip(slices_hu, axis=2)), axis=2)
    return keras.Model(slices_hu, layers.Average(dtype="float32")([network(slices_hu), mirrored]), name="flip_averaged")


def load_model(path: Path) -> keras.Model:
    """Load a trained network for inference in float32, on any machine.

    Raises:
        InputError: no such file, not whole, or a model with code in it (a Lambda layer), which is never run.
    """
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"{path}: no model that can be loaded safely ({reason}); give the output of train") from error


def _convolve_twice(x: Any, width: int, batch_norm: bool, dtype: str) -> Any:
    for _ in range(2):
        x = layers.Conv2D(
            width, 3, padding="same", use_bias=not batch_norm, kernel_initializer="he_normal", dtype=dtype
        )(x)
        if batch_norm:
            x = FusedBatchNormalization(momentum=0.9, dtype=dtype)(x)
        x = layers.ReLU(dtype=dtype)(x)
    return x
