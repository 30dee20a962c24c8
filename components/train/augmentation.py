"""Random augmentation of whole batches, determined by a seed."""

from math import log1p, pi

import tensorflow as tf

from components.ct.grid import AIR_HU
from components.ct.intensity import WINDOW_HU
from components.train.recipe import Augmentation

# Brightness, contrast, gamma and noise act on gray values of this window.
GRAY_LOWER_HU, GRAY_UPPER_HU = WINDOW_HU


def augment(
    slices_hu: tf.Tensor, lesion: tf.Tensor, seed: tf.Tensor, ranges: Augmentation
) -> tuple[tf.Tensor, tf.Tensor]:
    """Transform slices together with their lesion shares, and vary the slices' gray values.

    Args:
        slices_hu: (n, size, size) float32 HU.
        lesion: (n, size, size) float32 shares, transformed by the same map.
        seed: (2,) int for `tf.random.stateless_*`; equal seeds give equal slices.
        ranges: ranges of the variation.
    """
    seeds = tf.random.split(seed, 3)
    slices_hu, lesion = _transform(slices_hu, lesion, seeds[0], ranges)
    if ranges.brightness or ranges.contrast or ranges.gamma or ranges.noise:
        gray = (slices_hu - GRAY_LOWER_HU) / (GRAY_UPPER_HU - GRAY_LOWER_HU)
        gray = _vary_gray(tf.clip_by_value(gray, 0.0, 1.0), seeds[1], seeds[2], ranges)
        slices_hu = gray * (GRAY_UPPER_HU - GRAY_LOWER_HU) + GRAY_LOWER_HU
    return slices_hu, lesion


def _transform(
    slices_hu: tf.Tensor, lesion: tf.Tensor, seed: tf.Tensor, ranges: Augmentation
) -> tuple[tf.Tensor, tf.Tensor]:
    """Apply one affine map to each slice, about its center; fill with air."""
    shape = tf.shape(slices_hu)
    count, size = shape[0], tf.cast(shape[1], tf.float32)
    draw = tf.random.stateless_uniform((7, count), seed, -1.0, 1.0)
    angle = draw[0] * ranges.rotation_deg * (pi / 180)
    scale = tf.exp(draw[1] * log1p(ranges.scale))
    stretch = tf.exp(draw[2] * log1p(ranges.stretch) / 2)
    flip_columns = tf.where((draw[3] < 0) & ranges.flip_columns, -1.0, 1.0)
    flip_rows = tf.where((draw[4] < 0) & ranges.flip_rows, -1.0, 1.0)
    # The map goes from output cells to input positions.
    x_from_x = tf.cos(angle) / (scale * stretch) * flip_columns
    x_from_y = -tf.sin(angle) / (scale * stretch) * flip_columns
    y_from_x = tf.sin(angle) / (scale / stretch) * flip_rows
    y_from_y = tf.cos(angle) / (scale / stretch) * flip_rows
    center = (size - 1) / 2
    x_shift = center * (1 - x_from_x - x_from_y) + draw[5] * ranges.shift * size
    y_shift = center * (1 - y_from_x - y_from_y) + draw[6] * ranges.shift * size
    zero = tf.zeros_like(angle)
    images = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.stack([slices_hu - AIR_HU, lesion], axis=-1),
        transforms=tf.stack([x_from_x, x_from_y, x_shift, y_from_x, y_from_y, y_shift, zero, zero], axis=1),
        output_shape=shape[1:3],
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=0.0,
    )
    return images[..., 0] + AIR_HU, images[..., 1]


def _vary_gray(gray: tf.Tensor, seed: tf.Tensor, noise_seed: tf.Tensor, ranges: Augmentation) -> tf.Tensor:
    """Vary (n, size, size) gray values from 0 to 1, each slice independently."""
    draw = tf.random.stateless_uniform((4, tf.shape(gray)[0], 1, 1), seed, -1.0, 1.0)
    gray = gray ** tf.exp(draw[0] * log1p(ranges.gamma))
    gray = (gray - 0.5) * tf.exp(draw[1] * log1p(ranges.contrast)) + 0.5 + draw[2] * ranges.brightness
    if ranges.noise:
        gray += tf.random.stateless_normal(tf.shape(gray), noise_seed) * tf.abs(draw[3]) * ranges.noise
    return tf.clip_by_value(gray, 0.0, 1.0)
