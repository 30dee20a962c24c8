"""The queue and its batches: nothing mixed up, nothing lost, and a bound."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from serving.batching import Batcher, BatchLimits
from serving.refusal import Refusal
from serving.saved_model import SavedModel
from tests.serving.toy import SIZE, save_toy_model, toy_probability


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slow")
    save_toy_model(folder, work=400)
    return SavedModel(folder)


@pytest.fixture(scope="module")
def model(model_folder):
    return SavedModel(model_folder / "3")


@pytest.fixture
def batcher():
    """A function that makes a Batcher, closed at the end."""
    made = []

    def make(limits, observe=lambda slices: None):
        made.append(Batcher(limits, observe))
        return made[-1]

    yield make
    for one in made:
        one.close()


def slices(seed, n):
    return {"slices_hu": np.random.default_rng(seed).integers(-1400, 400, (n, SIZE, SIZE), np.int16)}


def test_everyone_gets_their_own_slices_back(model, batcher):
    sizes = []
    queue = batcher(BatchLimits(slices=16), sizes.append)

    def ask(seed):
        inputs = slices(seed, 1 + seed % 5)
        answer = queue.run(model, "network", inputs)
        np.testing.assert_allclose(answer["lesion_probability"], toy_probability(inputs["slices_hu"]), atol=1e-6)
        assert answer["threshold"].shape == (1 + seed % 5,)

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(ask, range(200)))
    assert sum(sizes) == sum(1 + seed % 5 for seed in range(200))


def test_what_waits_is_computed_together_up_to_the_bound(slow_model, batcher):
    sizes = []
    queue = batcher(BatchLimits(slices=8, workers=1), sizes.append)
    with ThreadPoolExecutor(13) as pool:
        first = pool.submit(queue.run, slow_model, "network", slices(0, 1))
        time.sleep(0.05)
        others = [pool.submit(queue.run, slow_model, "network", slices(n, 2)) for n in range(1, 9)]
        for future in [first, *others]:
            future.result()
    assert sizes == [1, 8, 8]


def test_a_request_over_the_bound_goes_alone_and_shapes_are_not_mixed(slow_model, batcher):
    sizes = []
    queue = batcher(BatchLimits(slices=4, workers=1), sizes.append)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(queue.run, slow_model, "network", slices(0, 1))
        time.sleep(0.05)
        large = pool.submit(queue.run, slow_model, "network", slices(1, 9))
        small = pool.submit(queue.run, slow_model, "network", slices(2, 1))
        other = pool.submit(queue.run, slow_model, "serving_default", {"slices_hu": np.zeros((1, 5, 7), np.int16)})
        assert large.result()["lesion_mask"].shape == (9, SIZE, SIZE)
        assert other.result()["lesion_mask"].shape == (1, 5, 7)
        assert small.result()["lesion_mask"].shape == (1, SIZE, SIZE)
        first.result()
    assert sorted(sizes) == [1, 1, 1, 9]


def test_a_full_queue_refuses_at_once_and_loses_nothing_it_took(slow_model, batcher):
    queue = batcher(BatchLimits(waiting=3, slices=1, workers=1))
    with ThreadPoolExecutor(4) as pool:
        taken = [pool.submit(queue.run, slow_model, "network", slices(0, 1))]
        time.sleep(0.05)
        taken += [pool.submit(queue.run, slow_model, "network", slices(n, 1)) for n in range(1, 4)]
        while queue.waiting() < 3:
            time.sleep(0.005)
        with pytest.raises(Refusal) as caught:
            queue.run(slow_model, "network", slices(9, 1))
        assert caught.value.code.name == "RESOURCE_EXHAUSTED"
        assert all(future.result()["lesion_mask"].shape == (1, SIZE, SIZE) for future in taken)


def test_what_nobody_waits_for_any_more_is_not_computed(slow_model, batcher):
    sizes = []
    queue = batcher(BatchLimits(workers=1), sizes.append)
    gone = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(queue.run, slow_model, "network", slices(0, 1))
        time.sleep(0.05)
        given_up = pool.submit(queue.run, slow_model, "network", slices(1, 1), lambda: not gone.is_set())
        gone.set()
        first.result()
        with pytest.raises(Refusal):
            given_up.result()
    assert sizes == [1]


def test_no_slices_at_all_are_answered_with_none(model, batcher):
    answer = batcher(BatchLimits()).run(model, "network", slices(0, 0))
    assert answer["lesion_mask"].shape == (0, SIZE, SIZE)
