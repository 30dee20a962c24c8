"""Augmentation: slices and lesions are transformed together, within the ranges, as the seed determines."""

import dataclasses

import numpy as np
import tensorflow as tf

from components.train.augmentation import augment
from components.train.recipe import Augmentation

IDENTITY = Augmentation(
    flip_columns=False, rotation_deg=0, scale=0, stretch=0, shift=0, brightness=0, contrast=0, gamma=0, noise=0
)


def make_batch(count: int = 16) -> tuple[tf.Tensor, tf.Tensor]:
    """Return slices with an off-center bright square as the lesion."""
    lesion = np.zeros((count, 32, 32), np.float32)
    lesion[:, 6:14, 18:26] = 1
    return tf.constant(-1000 + 1000 * lesion), tf.constant(lesion)


def test_ranges_of_zero_change_nothing():
    slices_hu, lesion = make_batch()
    moved_hu, moved_lesion = augment(slices_hu, lesion, tf.constant([1, 2]), IDENTITY)
    np.testing.assert_allclose(moved_hu, slices_hu, atol=1e-3)
    np.testing.assert_allclose(moved_lesion, lesion, atol=1e-6)


def test_slices_and_lesions_are_transformed_together():
    slices_hu, lesion = make_batch()
    ranges = Augmentation(brightness=0, contrast=0, gamma=0, noise=0)
    moved_hu, moved_lesion = augment(slices_hu, lesion, tf.constant([1, 2]), ranges)
    np.testing.assert_allclose(moved_hu, -1000 + 1000 * moved_lesion, atol=1e-2)
    assert np.abs(moved_lesion - lesion).max() > 0.5


def test_a_flip_gives_the_exact_mirror_image():
    slices_hu, lesion = make_batch()
    moved = augment(slices_hu, lesion, tf.constant([1, 2]), dataclasses.replace(IDENTITY, flip_columns=True))[1].numpy()
    mirrored = np.flip(lesion.numpy(), axis=2)
    kept = np.isclose(moved, lesion).all(axis=(1, 2))
    assert np.isclose(moved, mirrored, atol=1e-5).all(axis=(1, 2))[~kept].all()
    assert 2 <= kept.sum() <= 14


def test_scaling_changes_areas_by_at_most_the_squared_factor():
    slices_hu, lesion = make_batch(64)
    moved = augment(slices_hu, lesion, tf.constant([3, 4]), dataclasses.replace(IDENTITY, scale=0.25))[1].numpy()
    ratio = moved.sum(axis=(1, 2)) / lesion.numpy().sum(axis=(1, 2))
    assert 1 / 1.25**2 * 0.97 < ratio.min() < 0.75
    assert 1.3 < ratio.max() < 1.25**2 * 1.03


def test_equal_seeds_give_equal_slices_and_other_seeds_other_slices():
    first, again, other = (
        augment(*make_batch(), tf.constant(seed), Augmentation())[0] for seed in ([1, 2], [1, 2], [1, 3])
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 100


def test_gray_values_stay_in_the_window():
    slices_hu, lesion = make_batch()
    varied = augment(slices_hu, lesion, tf.constant([5, 6]), dataclasses.replace(Augmentation(), noise=0.5))[0].numpy()
    assert varied.min() >= -1250
    assert varied.max() <= 250
