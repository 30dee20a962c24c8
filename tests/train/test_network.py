"""The U-Net: inputs and outputs, saving and loading, and the fused batch normalization."""

import keras
import numpy as np
import pytest

from components.runtime.errors import InputError
from components.train import MODEL_FILE
from components.train.network import FusedBatchNormalization, average_flips, build_network, load_model
from components.train.recipe import Recipe

SMALL = Recipe(filters=(4, 8, 8))


def test_the_default_network_has_the_published_size():
    model = build_network(64, Recipe(batch_norm=False))
    widths = [layer.filters for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert widths[:10] == [16, 16, 32, 32, 64, 64, 128, 128, 256, 256]
    assert model.count_params() == 1_940_817


def test_the_grid_is_divisible_for_every_level():
    with pytest.raises(InputError, match=r"image_size is 48; .*32.* 6 levels"):
        build_network(48, Recipe(filters=(4,) * 6))


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_slices_in_hu_become_probabilities_in_float32(dtype):
    model = build_network(32, SMALL, dtype=dtype)
    slices_hu = np.random.default_rng(0).integers(-1024, 600, (3, 32, 32)).astype(np.int16)
    probability = np.asarray(model(slices_hu.astype(np.float32)))
    assert probability.shape == (3, 32, 32)
    assert probability.dtype == np.float32
    assert probability.min() >= 0
    assert probability.max() <= 1
    np.testing.assert_array_equal(probability, model(slices_hu[..., None].astype(np.float32)))


def test_hu_beyond_the_window_have_no_effect():
    model = build_network(32, SMALL)
    within = np.full((1, 32, 32), 250.0, np.float32)
    np.testing.assert_array_equal(model(within), model(within + 3000))


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_fused_batch_normalization_equals_that_of_keras(dtype):
    draw = np.random.default_rng(0)
    batch = draw.normal(3, 2, (4, 8, 8, 5)).astype(np.float32)
    fused, plain = FusedBatchNormalization(dtype=dtype), keras.layers.BatchNormalization(dtype=dtype)
    for layer in (fused, plain):
        layer.build(batch.shape)
        layer.gamma.assign([1, 2, 3, 4, 5])
        layer.beta.assign([0, 1, 0, 1, 0])
    tolerance = 1e-3 if dtype == "float32" else 1e-2  # bfloat16 has 8 significant bits
    for training in (True, False):
        outputs = [np.asarray(keras.ops.cast(layer(batch, training=training), "float32")) for layer in (fused, plain)]
        np.testing.assert_allclose(*outputs, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(fused.moving_mean, plain.moving_mean, rtol=1e-2, atol=1e-3)
    # The fused kernel's variance is unbiased, with 256 values 0.4 % larger.
    np.testing.assert_allclose(fused.moving_variance, plain.moving_variance, rtol=1e-2)


def test_a_saved_network_predicts_the_same_after_loading(tmp_path):
    model = build_network(32, SMALL)
    model.save(tmp_path / MODEL_FILE)
    slices_hu = np.random.default_rng(0).normal(-700, 300, (2, 32, 32)).astype(np.float32)
    np.testing.assert_array_equal(load_model(tmp_path / MODEL_FILE)(slices_hu), model(slices_hu))


def test_an_averaged_network_predicts_the_same_for_a_slice_and_its_mirror_image(tmp_path):
    network = build_network(32, SMALL)
    average_flips(network).save(tmp_path / MODEL_FILE)
    averaged = load_model(tmp_path / MODEL_FILE)
    slices_hu = np.random.default_rng(0).normal(-700, 300, (2, 32, 32)).astype(np.float32)
    probability, mirrored = np.asarray(averaged(slices_hu)), np.asarray(averaged(slices_hu[:, :, ::-1]))[:, :, ::-1]
    np.testing.assert_allclose(probability, mirrored, atol=1e-6)
    by_hand = (np.asarray(network(slices_hu)) + np.asarray(network(slices_hu[:, :, ::-1]))[:, :, ::-1]) / 2
    np.testing.assert_allclose(probability, by_hand, atol=1e-6)
    assert averaged.count_params() == network.count_params()


@pytest.mark.parametrize("content", [None, b"", b"not a zip file"])
def test_a_missing_or_damaged_model_file_is_an_error_that_names_it(tmp_path, content):
    if content is not None:
        (tmp_path / MODEL_FILE).write_bytes(content)
    with pytest.raises(InputError, match=f"{MODEL_FILE}: "):
        load_model(tmp_path / MODEL_FILE)
