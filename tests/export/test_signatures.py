"""The exported signatures match the grid module and the wrapped network."""

import resource

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from components.ct import grid
from components.export import signatures
from components.export.parity import query_saved_model, query_server, require_parity
from components.export.signatures import ServedModel, write_warmup_requests
from components.runtime.errors import InputError
from serving.client.endpoint import ServingError
from serving.versions.contract import MAX_PIXELS
from serving.versions.layout import WARMUP_FILE
from tests.export.exportable import SIZE, small_network


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return small_network()


@pytest.fixture(scope="module")
def saved_model(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved_model")
    ServedModel(network, SIZE, 0.4).save(folder)
    return folder


@given(st.integers(1, 70), st.integers(1, 70))
@settings(deadline=None, max_examples=40)
def test_the_matrix_in_the_graph_equals_that_of_the_grid_module(n_from, n_to):
    in_graph = signatures.resampling_matrix(tf.constant(n_from), tf.constant(n_to)).numpy()
    np.testing.assert_allclose(in_graph, grid.resampling_matrix(n_from=n_from, n_to=n_to), atol=1e-6)


@pytest.mark.parametrize(
    ("count", "height", "width"),
    [(3, 64, 64), (3, 32, 32), (3, 16, 20), (70, 63, 40), (3, 101, 77), (3, 1, 50), (1, 1, grid.MAX_EDGE)],
)
def test_serving_default_equals_the_fit_by_a_client(saved_model, network, count, height, width):
    slices = np.random.default_rng(height).integers(-1100, 400, (count, height, width)).astype(np.int16)
    outputs = tf.saved_model.load(str(saved_model)).signatures["serving_default"](slices_hu=tf.constant(slices))
    on_grid = network.predict(grid.fit_hu(slices, SIZE).astype(np.float32), verbose=0)
    expected = grid.GridFit(height=height, width=width, size=SIZE).invert(on_grid)
    np.testing.assert_allclose(outputs["lesion_probability"].numpy(), expected, atol=1e-4)
    np.testing.assert_array_equal(outputs["lesion_mask"].numpy(), outputs["lesion_probability"].numpy() >= 0.4)
    np.testing.assert_allclose(outputs["threshold"].numpy(), [0.4] * count)


@pytest.mark.parametrize(
    ("signature", "shape", "message"),
    [
        ("serving_default", (1, 1, grid.MAX_EDGE + 1), f"1 to {grid.MAX_EDGE} rows and columns"),
        ("serving_default", (1, grid.MAX_EDGE + 1, 1), f"1 to {grid.MAX_EDGE} rows and columns"),
        ("serving_default", (1, 1, 1_000_000), f"1 to {grid.MAX_EDGE} rows and columns"),
        ("serving_default", (1, 4_000_000, 1), f"1 to {grid.MAX_EDGE} rows and columns"),
        ("serving_default", (0, 32, 32), "one slice or more"),
        ("serving_default", (2, 0, 5), f"1 to {grid.MAX_EDGE} rows and columns"),
        ("serving_default", (17, grid.MAX_EDGE, grid.MAX_EDGE), f"at most {MAX_PIXELS} pixels"),
        ("serving_default", (MAX_PIXELS // SIZE**2 + 1, 1, 1), f"at most {MAX_PIXELS} pixels"),
        ("network", (0, SIZE, SIZE), "one slice or more"),
    ],
)
def test_the_graph_refuses_a_shape_before_it_computes(saved_model, signature, shape, message):
    """The graph has to protect TF Serving, too: a request of 74 bytes can declare any of these shapes."""
    slices = tf.fill(shape, tf.constant(0, tf.int16))
    before = peak_bytes()
    with pytest.raises(tf.errors.InvalidArgumentError, match=message) as error:
        tf.saved_model.load(str(saved_model)).signatures[signature](slices_hu=slices)
    assert f"[{' '.join(map(str, shape))}]" in str(error.value)
    assert peak_bytes() - before < 100e6


def test_memory_grows_with_the_outputs_of_a_request_and_not_with_its_grids(saved_model):
    signature = tf.saved_model.load(str(saved_model)).signatures["serving_default"]
    before = peak_bytes()
    outputs = signature(slices_hu=tf.zeros((50_000, 1, 1), tf.int16))  # one activation of all grids: 820 MB
    assert outputs["lesion_mask"].shape == (50_000, 1, 1)
    assert peak_bytes() - before < 400e6


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_parity_holds_for_the_exported_files_and_fails_for_another_models_probabilities(saved_model, network):
    slices = np.random.default_rng(0).integers(-1000, 300, (4, SIZE, SIZE)).astype(np.int16)
    expected = network.predict(slices.astype(np.float32), verbose=0)
    query = query_saved_model(saved_model)
    assert require_parity(query, slices_hu=slices, expected=expected, threshold=0.4) < 1e-4
    for other, threshold in ((expected + 0.01, 0.4), (expected * np.nan, 0.4), (expected, 0.5)):
        with pytest.raises(InputError, match=r"signature network .*(0\.01|nan|%)"):
            require_parity(query, slices_hu=slices, expected=other, threshold=threshold)


def test_a_server_on_the_exported_files_returns_the_models_probabilities(saved_model, network):
    slices = np.random.default_rng(3).integers(-1000, 300, (4, SIZE, SIZE)).astype(np.int16)
    expected = network.predict(slices.astype(np.float32), verbose=0)
    with query_server(saved_model, "lung-infection") as query:
        assert require_parity(query, slices_hu=slices, expected=expected, threshold=0.4) < 1e-4
        with pytest.raises(ServingError, match=f"1 to {grid.MAX_EDGE} rows and columns") as error:
            query("serving_default", np.zeros((1, 1, grid.MAX_EDGE + 1), np.int16))
        assert error.value.code == "INVALID_ARGUMENT"


def test_files_that_a_server_cannot_load_are_refused(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"no graph")
    with pytest.raises(InputError, match=r"version 1 .*nothing was published"):
        query_server(tmp_path, "lung-infection").__enter__()


def test_the_model_answers_its_warmup_requests(saved_model):
    from tensorflow_serving.apis import prediction_log_pb2

    write_warmup_requests(saved_model, "lung-infection", SIZE, batch_sizes=(1, 2))
    loaded = tf.saved_model.load(str(saved_model))
    path = saved_model / WARMUP_FILE
    records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    assert len(records) == 3
    for record in records:
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        slices = tf.make_ndarray(request.inputs["slices_hu"])
        outputs = loaded.signatures[request.model_spec.signature_name](slices_hu=tf.constant(slices))
        assert outputs["lesion_mask"].shape == slices.shape
