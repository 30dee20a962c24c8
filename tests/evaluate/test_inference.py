"""Slices through a network in batches, and back to their own pixels."""

import keras
import numpy as np
import pytest

from components.ct.grid import GridFit, fit_hu
from components.ct.inference import BATCH_SIZE, keras_network, map_to_native, predict_grids, predict_slices
from components.runtime.errors import InputError
from tests.evaluate.tiny_cohort import SIZE, step_network


@pytest.mark.parametrize("sizes", [[], [1], [BATCH_SIZE], [BATCH_SIZE, 1]])
def test_every_slice_gets_its_own_probability_in_any_batch(sizes):
    batches = [
        np.arange(n, dtype=np.int16)[:, None, None] + np.full((n, SIZE, SIZE), -10 * number, np.int16)
        for number, n in enumerate(sizes)
    ]
    grids = list(predict_grids(keras_network(step_network(at_hu=0)), batches))
    assert [grid.shape for grid in grids] == [hu.shape for hu in batches]
    for grid, hu in zip(grids, batches, strict=True):
        assert grid.dtype == np.float32
        np.testing.assert_allclose(grid, 1 / (1 + np.exp(-hu / 20)), atol=1e-6)


def test_a_channel_axis_of_one_is_dropped():
    network = keras.Sequential([keras.layers.Input((SIZE, SIZE)), keras.layers.Reshape((SIZE, SIZE, 1))])
    (grid,) = predict_grids(keras_network(network), [np.zeros((2, SIZE, SIZE), np.int16)])
    assert grid.shape == (2, SIZE, SIZE)


def test_nan_probabilities_are_an_error_with_their_number():
    network = keras.Sequential([keras.layers.Input((SIZE, SIZE)), keras.layers.Rescaling(float("nan"))])
    with pytest.raises(InputError, match=rf"\b{SIZE * SIZE:,} .*NaN"):
        list(predict_grids(keras_network(network), [np.ones((1, SIZE, SIZE), np.int16)]))


def test_probabilities_come_back_on_the_slices_own_pixels():
    rng = np.random.default_rng(0)
    hu = rng.integers(-1000, 200, (BATCH_SIZE + 3, 50, 41), dtype=np.int16)
    network = keras_network(step_network(at_hu=-400))
    parts = list(predict_slices(network, hu, SIZE))
    assert [len(probability) for _, probability in parts] == [8, 8, 8, 8, 3]
    assert np.concatenate([np.arange(BATCH_SIZE + 3)[part] for part, _ in parts]).tolist() == list(range(len(hu)))
    grid_hu = fit_hu(hu, SIZE)
    grids = list(predict_grids(network, [grid_hu[:BATCH_SIZE], grid_hu[BATCH_SIZE:]]))
    whole = GridFit(height=50, width=41, size=SIZE).invert(np.concatenate(grids))
    for part, probability in parts:
        np.testing.assert_array_equal(probability, whole[part])


def test_a_batch_is_fitted_only_when_the_predictor_takes_it():
    batch_sizes = []

    def predict(batches):
        for batch in batches:
            batch_sizes.append(len(batch))
            yield batch.astype(np.float32)

    parts = map_to_native(predict, np.zeros((7, SIZE, SIZE), np.int16), SIZE, batch_size=3)
    assert next(parts)[0] == slice(0, 3)
    assert batch_sizes == [3]
    assert [part for part, _ in parts] == [slice(3, 6), slice(6, 7)]
