"""What a network is asked, and how its answer comes back to the slices' own pixels."""

import keras
import numpy as np
import pytest

from components.ct.grid import GridFit, fit_hu
from components.ct.inference import BATCH, keras_network, lesion_probability, predict_grid
from components.runtime.errors import InputError
from tests.evaluate.tiny_cohort import SIZE, step_network


@pytest.mark.parametrize("slices", [0, 1, BATCH, BATCH + 1])
def test_every_slice_gets_its_own_probability_whatever_the_batches(slices):
    hu = np.arange(slices, dtype=np.int16)[:, None, None] + np.zeros((1, SIZE, SIZE), np.int16)
    answer = predict_grid(keras_network(step_network(at_hu=0)), hu)
    assert answer.dtype == np.float32
    assert answer.shape == hu.shape
    np.testing.assert_allclose(answer, 1 / (1 + np.exp(-hu / 20)), atol=1e-6)


def test_a_channel_axis_of_one_is_dropped():
    network = keras.Sequential([keras.layers.Input((SIZE, SIZE)), keras.layers.Reshape((SIZE, SIZE, 1))])
    assert predict_grid(keras_network(network), np.zeros((2, SIZE, SIZE), np.int16)).shape == (2, SIZE, SIZE)


def test_a_network_that_answers_nan_is_named_as_broken():
    network = keras.Sequential([keras.layers.Input((SIZE, SIZE)), keras.layers.Rescaling(float("nan"))])
    with pytest.raises(InputError, match=f"{SIZE * SIZE:,} NaN or infinite"):
        predict_grid(keras_network(network), np.ones((1, SIZE, SIZE), np.int16))


def test_probabilities_lie_on_the_slices_own_pixels():
    rng = np.random.default_rng(0)
    hu = rng.integers(-1000, 200, (BATCH + 3, 50, 41), dtype=np.int16)
    network = keras_network(step_network(at_hu=-400))
    parts = list(lesion_probability(network, hu, SIZE))
    assert [len(probability) for _, probability in parts] == [8, 8, 8, 8, 3]
    assert np.concatenate([np.arange(BATCH + 3)[part] for part, _ in parts]).tolist() == list(range(BATCH + 3))
    whole = GridFit(50, 41, SIZE).invert(predict_grid(network, fit_hu(hu, SIZE)))
    for part, probability in parts:
        np.testing.assert_array_equal(probability, whole[part])
