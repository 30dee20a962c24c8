"""The exported signatures against the grid module and the network they wrap."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from components.ct import grid
from components.export import parity, signatures
from components.export.parity import query_server
from components.export.signatures import ServedModel
from components.export.signatures import write_warmup_requests
from components.runtime.errors import InputError

SIZE = 32


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """A small network with fixed random weights that depends on each pixel's surroundings."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((SIZE, SIZE))
    x = keras.layers.Reshape((SIZE, SIZE, 1))(inputs)
    x = keras.layers.Rescaling(1 / 750)(x)
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    x = keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")(x)
    return keras.Model(inputs, keras.layers.Reshape((SIZE, SIZE))(x))


@pytest.fixture(scope="module")
def saved_model(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved_model")
    ServedModel(network, SIZE, 0.4).save(folder)
    return folder


@given(st.integers(1, 70), st.integers(1, 70))
@settings(deadline=None, max_examples=40)
def test_the_graphs_matrix_is_the_grid_modules(n_from, n_to):
    in_graph = signatures.resampling_matrix(tf.constant(n_from), tf.constant(n_to)).numpy()
    np.testing.assert_allclose(in_graph, grid.resampling_matrix(n_from=n_from, n_to=n_to), atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (32, 32), (16, 20), (63, 40), (101, 77), (1, 50)])
def test_raw_slices_of_any_size_get_what_a_client_computes(saved_model, network, height, width):
    slices = np.random.default_rng(height).integers(-1100, 400, (3, height, width)).astype(np.int16)
    answer = tf.saved_model.load(str(saved_model)).signatures["serving_default"](slices_hu=tf.constant(slices))
    on_grid = network.predict(grid.fit_hu(slices, SIZE).astype(np.float32), verbose=0)
    expected = grid.GridFit(height=height, width=width, size=SIZE).invert(on_grid)
    np.testing.assert_allclose(answer["lesion_probability"].numpy(), expected, atol=1e-4)
    np.testing.assert_array_equal(answer["lesion_mask"].numpy(), answer["lesion_probability"].numpy() >= 0.4)
    np.testing.assert_allclose(answer["threshold"].numpy(), [0.4] * 3)


def test_parity_holds_for_the_exported_files_and_fails_for_another_models_numbers(saved_model, network):
    slices = np.random.default_rng(0).integers(-1000, 300, (4, SIZE, SIZE)).astype(np.int16)
    expected = network.predict(slices.astype(np.float32), verbose=0)
    ask = parity.query_saved_model(saved_model)
    assert parity.require_parity(ask, expected, slices, 0.4) < 1e-4
    for other, threshold in ((expected + 0.01, 0.4), (expected * np.nan, 0.4), (expected, 0.5)):
        with pytest.raises(InputError, match="nothing was published"):
            parity.require_parity(ask, other, slices, threshold)


def test_a_server_on_the_exported_files_gives_the_models_numbers(saved_model, network):
    slices = np.random.default_rng(3).integers(-1000, 300, (4, SIZE, SIZE)).astype(np.int16)
    expected = network.predict(slices.astype(np.float32), verbose=0)
    with query_server(saved_model, "lung-infection") as ask:
        assert parity.require_parity(ask, expected, slices, 0.4) < 1e-4


def test_files_that_no_server_loads_are_told(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"no graph")
    with pytest.raises(InputError, match=r"did not start: .*version 1 cannot be loaded.*nothing was published"):
        query_server(tmp_path, "lung-infection").__enter__()


def test_warmup_requests_are_answered_by_the_model(saved_model):
    from tensorflow_serving.apis import prediction_log_pb2

    write_warmup_requests(saved_model, "lung-infection", SIZE, batch_sizes=(1, 2))
    loaded = tf.saved_model.load(str(saved_model))
    path = saved_model / "assets.extra" / "tf_serving_warmup_requests"
    records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    assert len(records) == 3
    for record in records:
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        slices = tf.make_ndarray(request.inputs["slices_hu"])
        answer = loaded.signatures[request.model_spec.signature_name](slices_hu=tf.constant(slices))
        assert answer["lesion_mask"].shape == slices.shape
