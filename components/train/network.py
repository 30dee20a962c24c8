"""The 2-D U-Net, from slices in Hounsfield units to lesion probabilities, for every Keras backend."""

import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import keras
from keras import layers

from components.runtime.errors import InputError
from components.runtime.files import atomic_write
from components.train.recipe import Recipe

_PACKAGE = "lung_ct"


@keras.saving.register_keras_serializable(_PACKAGE)
class WindowHU(layers.Layer):
    """Clips Hounsfield units to a window and scales it to 0 to `top`.

    Always computes in float32: bfloat16 resolves the HU values of lung tissue only in steps of 4.
    """

    def __init__(self, lower_hu: float, upper_hu: float, top: float = 1.0, **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.lower_hu = lower_hu
        self.upper_hu = upper_hu
        self.top = top

    def call(self, slices_hu: Any) -> Any:
        """Apply the window to slices of any shape."""
        share = (slices_hu - self.lower_hu) / (self.upper_hu - self.lower_hu)
        return keras.ops.clip(share, 0.0, 1.0) * self.top

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "lower_hu": self.lower_hu, "upper_hu": self.upper_hu, "top": self.top}


@keras.saving.register_keras_serializable(_PACKAGE)
class FusedBatchNormalization(layers.BatchNormalization):
    """Batch normalization over the last axis, with TensorFlow's fused kernel in training.

    Keras composes it from a dozen float32 operations, which on a CPU take half as long as the network's convolutions;
    the fused kernel reads bfloat16 once and takes a tenth as long as they do.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalize by the batch's statistics in training, otherwise by the moving ones."""
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


def build_network(image_size: int, recipe: Recipe = Recipe(), *, dtype: str = "float32") -> keras.Model:  # noqa: B008
    """Build an untrained U-Net (Ronneberger et al., 2015) with He initialization (He et al., 2015).

    Args:
        image_size: edge of the grid, divisible by 2 for each level but the first.
        recipe: window, filters and batch normalization.
        dtype: policy of the inner layers, such as "mixed_bfloat16"; weights and output are always float32.

    Returns:
        A model from (n, image_size, image_size) slices in HU, optionally with a last axis of 1, to lesion
        probabilities (n, image_size, image_size) float32.

    Raises:
        InputError: `image_size` is not divisible.
    """
    filters, batch_norm = recipe.filters, recipe.batch_norm
    recipe.check_image_size(image_size)
    slices_hu = keras.Input((image_size, image_size), name="slices_hu", dtype="float32")
    x = layers.Reshape((image_size, image_size, 1), dtype="float32")(slices_hu)
    if recipe.window_hu is not None:
        x = WindowHU(*recipe.window_hu, recipe.window_max, name="window")(x)
    skip_connections = []
    for width in filters[:-1]:
        x = _convolve_twice(x, width, batch_norm, dtype)
        skip_connections.append(x)
        x = layers.MaxPooling2D(2, dtype=dtype)(x)
    x = _convolve_twice(x, filters[-1], batch_norm, dtype)
    for width, skip in zip(filters[-2::-1], reversed(skip_connections), strict=True):
        x = layers.Conv2DTranspose(width, 2, strides=2, kernel_initializer="he_normal", dtype=dtype)(x)
        x = layers.Concatenate(dtype=dtype)([x, skip])
        x = _convolve_twice(x, width, batch_norm, dtype)
    x = layers.Conv2D(1, 1, activation="sigmoid", dtype="float32", name="probability")(x)
    return keras.Model(slices_hu, layers.Reshape((image_size, image_size), dtype="float32")(x), name="unet")


def average_flips(network: keras.Model) -> keras.Model:
    """Wrap a trained network to average its output over each slice and its left-right mirror image."""
    slices_hu = keras.Input(network.input_shape[1:], name="slices_hu", dtype="float32")
    mirror = keras.ops.flip(network(keras.ops.flip(slices_hu, axis=2)), axis=2)
    return keras.Model(slices_hu, layers.Average(dtype="float32")([network(slices_hu), mirror]), name="flip_averaged")


def save_model(network: keras.Model, path: Path) -> None:
    """Write a network atomically as a `.keras` file, without the times at which Keras and zip date it.

    Equal networks give equal bytes in processes that build them by the same calls, see `keras.utils.clear_session`.
    """
    with atomic_write(path) as temporary, tempfile.TemporaryDirectory(prefix=".", dir=path.parent) as folder:
        dated = Path(folder) / "dated.keras"  # Keras requires the suffix
        network.save(dated)
        with zipfile.ZipFile(dated) as source, zipfile.ZipFile(temporary, "w") as target:
            for name in source.namelist():
                content = source.read(name)
                if name == "metadata.json":
                    content = json.dumps(json.loads(content) | {"date_saved": "1980-01-01@00:00:00"}).encode()
                target.writestr(zipfile.ZipInfo(name), content)  # dated 1980, the first year of zip


def load_model(path: Path) -> keras.Model:
    """Load a trained network for inference in float32.

    Raises:
        InputError: missing or damaged file, or a model that contains code (a Lambda layer), which is never run.
    """
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"{path}: cannot be loaded safely ({reason}); expected the output of train") from error


def _convolve_twice(x: Any, width: int, batch_norm: bool, dtype: str) -> Any:
    for _ in range(2):
        x = layers.Conv2D(
            width, 3, padding="same", use_bias=not batch_norm, kernel_initializer="he_normal", dtype=dtype
        )(x)
        if batch_norm:
            x = FusedBatchNormalization(momentum=0.9, dtype=dtype)(x)
        x = layers.ReLU(dtype=dtype)(x)
    return x
