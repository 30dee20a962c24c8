"""Random variation of training slices, a whole batch at a time, drawn from a seed and nothing else."""

from math import log1p, pi

import tensorflow as tf

from components.ct.grid import AIR_HU
from components.ct.intensity import WINDOW_HU
from components.train.recipe import Augmentation

# Brightness, contrast, gamma and noise act on the gray values of this window.
GRAY_LOWER_HU, GRAY_UPPER_HU = WINDOW_HU


def augment(slices_hu: tf.Tensor, lesion: tf.Tensor, seed: tf.Tensor, how: Augmentation) -> tuple[tf.Tensor, tf.Tensor]:
    """Move, turn and scale slices with their lesion shares, and vary the gray values of the slices.

    Args:
        slices_hu: (n, size, size) float32 HU.
        lesion: (n, size, size) float32 shares, moved by the same map.
        seed: (2,) int, for `tf.random.stateless_*`: the same seed gives the same slices.
        how: ranges of the variation.
    """
    seeds = tf.random.split(seed, 3)
    slices_hu, lesion = _move(slices_hu, lesion, seeds[0], how)
    if how.brightness or how.contrast or how.gamma or how.noise:
        gray = (slices_hu - GRAY_LOWER_HU) / (GRAY_UPPER_HU - GRAY_LOWER_HU)
        gray = _vary(tf.clip_by_value(gray, 0.0, 1.0), seeds[1], seeds[2], how)
        slices_hu = gray * (GRAY_UPPER_HU - GRAY_LOWER_HU) + GRAY_LOWER_HU
    return slices_hu, lesion


def _move(slices_hu: tf.Tensor, lesion: tf.Tensor, seed: tf.Tensor, how: Augmentation) -> tuple[tf.Tensor, tf.Tensor]:
    """One linear map for each slice, about its middle; air comes in from outside."""
    shape = tf.shape(slices_hu)
    count, size = shape[0], tf.cast(shape[1], tf.float32)
    draw = tf.random.stateless_uniform((7, count), seed, -1.0, 1.0)
    angle = draw[0] * how.rotation_deg * (pi / 180)
    scale = tf.exp(draw[1] * log1p(how.scale))
    stretch = tf.exp(draw[2] * log1p(how.stretch) / 2)
    flip_columns = tf.where((draw[3] < 0) & how.flip_columns, -1.0, 1.0)
    flip_rows = tf.where((draw[4] < 0) & how.flip_rows, -1.0, 1.0)
    # From a cell of the new slice to the place in the old one whose value it takes.
    x_from_x = tf.cos(angle) / (scale * stretch) * flip_columns
    x_from_y = -tf.sin(angle) / (scale * stretch) * flip_columns
    y_from_x = tf.sin(angle) / (scale / stretch) * flip_rows
    y_from_y = tf.cos(angle) / (scale / stretch) * flip_rows
    middle = (size - 1) / 2
    x_shift = middle * (1 - x_from_x - x_from_y) + draw[5] * how.shift * size
    y_shift = middle * (1 - y_from_x - y_from_y) + draw[6] * how.shift * size
    zero = tf.zeros_like(angle)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.stack([slices_hu - AIR_HU, lesion], axis=-1),
        transforms=tf.stack([x_from_x, x_from_y, x_shift, y_from_x, y_from_y, y_shift, zero, zero], axis=1),
        output_shape=shape[1:3],
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=0.0,
    )
    return moved[..., 0] + AIR_HU, moved[..., 1]


def _vary(gray: tf.Tensor, seed: tf.Tensor, noise_seed: tf.Tensor, how: Augmentation) -> tf.Tensor:
    """Vary (n, size, size) gray values from 0 to 1, each slice in its own way."""
    draw = tf.random.stateless_uniform((4, tf.shape(gray)[0], 1, 1), seed, -1.0, 1.0)
    gray = gray ** tf.exp(draw[0] * log1p(how.gamma))
    gray = (gray - 0.5) * tf.exp(draw[1] * log1p(how.contrast)) + 0.5 + draw[2] * how.brightness
    if how.noise:
        gray += tf.random.stateless_normal(tf.shape(gray), noise_seed) * tf.abs(draw[3]) * how.noise
    return tf.clip_by_value(gray, 0.0, 1.0)
