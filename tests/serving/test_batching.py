"""The queue and its batches: nothing mixed up, nothing lost, and a bound."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from serving.server.batching import Batcher, BatchLimits
from serving.server.errors import RequestError
from serving.versions.saved_model import SavedModel
from tests.serving.toy import SIZE, toy_probability


@pytest.fixture(scope="module")
def model(model_folder):
    return SavedModel(model_folder / "3")


class HeldUp:
    """A Batcher of one worker, which a first request of one slice keeps busy until `go` is set."""

    def __init__(self, limits, model):
        self.sizes, self.busy, self.go = [], threading.Event(), threading.Event()
        self.queue = Batcher(limits, self.observe)
        self.pool = ThreadPoolExecutor(16)
        self.first = self.pool.submit(self.queue.run, model, "network", slices(0, 1))
        assert self.busy.wait(30)

    def observe(self, n):
        self.sizes.append(n)
        self.busy.set()
        assert self.go.wait(30)

    def ask(self, *request):
        """Put a request into the queue, behind those asked before."""
        behind = self.queue.queue_length()
        future = self.pool.submit(self.queue.run, *request)
        deadline = time.monotonic() + 30
        while self.queue.queue_length() == behind:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        return future


@pytest.fixture
def held_up():
    """A function that makes a Batcher whose worker is busy."""
    made = []

    def make(limits, model):
        made.append(HeldUp(limits, model))
        return made[-1]

    yield make
    for one in made:
        one.go.set()
        one.pool.shutdown()
        one.queue.close()


def slices(seed, n):
    return {"slices_hu": np.random.default_rng(seed).integers(-1400, 400, (n, SIZE, SIZE), np.int16)}


def test_everyone_gets_their_own_slices_back(model):
    sizes = []
    queue = Batcher(BatchLimits(batch_slices=16), sizes.append)

    def ask(seed):
        inputs = slices(seed, 1 + seed % 5)
        answer = queue.run(model, "network", inputs)
        np.testing.assert_allclose(answer["lesion_probability"], toy_probability(inputs["slices_hu"]), atol=1e-6)
        assert answer["threshold"].shape == (1 + seed % 5,)

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(ask, range(200)))
    queue.close()
    assert sum(sizes) == sum(1 + seed % 5 for seed in range(200))


def test_what_waits_is_computed_together_up_to_the_bound(model, held_up):
    held = held_up(BatchLimits(batch_slices=8, workers=1), model)
    others = [held.ask(model, "network", slices(n, 2)) for n in range(1, 9)]
    held.go.set()
    for n, future in enumerate(others, start=1):
        expected = toy_probability(slices(n, 2)["slices_hu"])
        np.testing.assert_allclose(future.result(30)["lesion_probability"], expected, atol=1e-6)
    assert held.sizes == [1, 8, 8]


def test_a_request_over_the_bound_goes_alone_and_shapes_are_not_mixed(model, held_up):
    held = held_up(BatchLimits(batch_slices=4, workers=1), model)
    large = held.ask(model, "network", slices(1, 9))
    small = held.ask(model, "network", slices(2, 1))
    other = held.ask(model, "serving_default", {"slices_hu": np.zeros((1, 5, 7), np.int16)})
    held.go.set()
    assert large.result(30)["lesion_mask"].shape == (9, SIZE, SIZE)
    assert other.result(30)["lesion_mask"].shape == (1, 5, 7)
    assert small.result(30)["lesion_mask"].shape == (1, SIZE, SIZE)
    assert sorted(held.sizes) == [1, 1, 1, 9]


def test_a_full_queue_refuses_at_once_and_loses_nothing_it_took(model, held_up):
    held = held_up(BatchLimits(queue_size=3, batch_slices=1, workers=1), model)
    taken = [held.ask(model, "network", slices(n, 1)) for n in range(3)]
    with pytest.raises(RequestError) as caught:
        held.queue.run(model, "network", slices(9, 1))
    assert caught.value.code.name == "RESOURCE_EXHAUSTED"
    held.go.set()
    assert all(future.result(30)["lesion_mask"].shape == (1, SIZE, SIZE) for future in [held.first, *taken])


def test_what_nobody_waits_for_any_more_is_not_computed(model, held_up):
    held = held_up(BatchLimits(workers=1), model)
    given_up = held.ask(model, "network", slices(1, 1), lambda: False)
    held.go.set()
    with pytest.raises(RequestError):
        given_up.result(30)
    assert held.sizes == [1]


def test_no_slices_at_all_are_answered_with_none(model):
    queue = Batcher(BatchLimits())
    assert queue.run(model, "network", slices(0, 0))["lesion_mask"].shape == (0, SIZE, SIZE)
    queue.close()
