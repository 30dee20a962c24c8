"""The request queue: batches keep requests apart, lose none, and stay within the limits."""

import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from serving.server.batching import Batcher, BatchLimits
from serving.server.errors import RequestError
from serving.versions.saved_model import SavedModel
from tests.serving.conftest import wait_until
from tests.serving.toy import SIZE, toy_probability


@pytest.fixture(scope="module")
def model(model_folder):
    return SavedModel(model_folder / "3")


class BlockedBatcher:
    """A Batcher with one worker, blocked by a first request of one slice until `unblock` is set."""

    def __init__(self, limits, model):
        self.batch_sizes, self.blocked, self.unblock = [], threading.Event(), threading.Event()
        self.batcher = Batcher(limits, self.on_batch)
        self.pool = ThreadPoolExecutor(16)
        self.first = self.pool.submit(self.batcher.run, model, "network", slices(0, 1))
        assert self.blocked.wait(30)

    def on_batch(self, n):
        self.batch_sizes.append(n)
        self.blocked.set()
        assert self.unblock.wait(30)

    def submit(self, *request):
        """Append a request to the queue."""
        length = self.batcher.queue_length()
        future = self.pool.submit(self.batcher.run, *request)
        deadline = time.monotonic() + 30
        while self.batcher.queue_length() == length:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        return future


@pytest.fixture
def blocked_batcher(model):
    """A function that creates a blocked Batcher."""
    batchers = []

    def create(**limits):
        batchers.append(BlockedBatcher(BatchLimits(workers=1, **limits), model))
        return batchers[-1]

    yield create
    for blocked in batchers:
        blocked.unblock.set()
        blocked.pool.shutdown()
        blocked.batcher.close()


def slices(seed, n):
    return {"slices_hu": np.random.default_rng(seed).integers(-1400, 400, (n, SIZE, SIZE), np.int16)}


def test_each_request_gets_the_outputs_of_its_own_slices(model):
    batch_sizes = []
    batcher = Batcher(BatchLimits(batch_slices=16), batch_sizes.append)

    def run(seed):
        inputs = slices(seed, 1 + seed % 5)
        outputs = batcher.run(model, "network", inputs)
        np.testing.assert_allclose(outputs["lesion_probability"], toy_probability(inputs["slices_hu"]), atol=1e-6)
        assert outputs["threshold"].shape == (1 + seed % 5,)

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(run, range(200)))
    batcher.close()
    assert sum(batch_sizes) == sum(1 + seed % 5 for seed in range(200))


def test_queued_requests_share_batches_up_to_the_limit(model, blocked_batcher):
    blocked = blocked_batcher(batch_slices=8)
    futures = [blocked.submit(model, "network", slices(n, 2)) for n in range(1, 9)]
    blocked.unblock.set()
    for n, future in enumerate(futures, start=1):
        expected = toy_probability(slices(n, 2)["slices_hu"])
        np.testing.assert_allclose(future.result(30)["lesion_probability"], expected, atol=1e-6)
    assert blocked.batch_sizes == [1, 8, 8]


@pytest.mark.parametrize("limits", [{"batch_slices": 4}, {"batch_values": 4 * SIZE**2 + 1}])
def test_other_shapes_get_their_own_batch_and_large_requests_several(model, blocked_batcher, limits):
    blocked = blocked_batcher(**limits)
    large = blocked.submit(model, "network", slices(1, 9))
    small = blocked.submit(model, "network", slices(2, 1))
    other = blocked.submit(model, "serving_default", {"slices_hu": np.zeros((1, 5, 7), np.int16)})
    blocked.unblock.set()
    expected = toy_probability(slices(1, 9)["slices_hu"])
    np.testing.assert_allclose(large.result(30)["lesion_probability"], expected, atol=1e-6)
    assert other.result(30)["lesion_mask"].shape == (1, 5, 7)
    assert small.result(30)["lesion_mask"].shape == (1, SIZE, SIZE)
    assert sorted(blocked.batch_sizes) == [1, 1, 1, 1, 4, 4]


def test_a_full_queue_rejects_at_once_and_answers_every_queued_request(model, blocked_batcher):
    blocked = blocked_batcher(queue_size=3, batch_slices=1)
    queued = [blocked.submit(model, "network", slices(n, 1)) for n in range(3)]
    with pytest.raises(RequestError) as caught:
        blocked.batcher.run(model, "network", slices(9, 1))
    assert caught.value.code.name == "RESOURCE_EXHAUSTED"
    blocked.unblock.set()
    assert all(future.result(30)["lesion_mask"].shape == (1, SIZE, SIZE) for future in [blocked.first, *queued])


def test_requests_beyond_the_memory_of_the_queue_are_rejected_until_others_are_answered(model, blocked_batcher):
    size = 3 * SIZE**2 * 7 + 3 * 4  # three slices of int16, their float32 and uint8 outputs, and three thresholds
    blocked = blocked_batcher(queue_bytes=2 * size)
    queued = blocked.submit(model, "network", slices(1, 3))
    with pytest.raises(RequestError, match="too much memory") as caught:
        blocked.batcher.run(model, "network", slices(2, 3))
    assert caught.value.code.name == "RESOURCE_EXHAUSTED"
    blocked.unblock.set()
    queued.result(30), blocked.first.result(30)
    assert blocked.batcher.run(model, "network", slices(2, 6 - 1))["threshold"].shape == (5,)


def test_a_batcher_keeps_no_arrays_of_answered_requests(model):
    batcher, inputs = Batcher(BatchLimits(workers=1)), slices(1, 1)
    batcher.run(model, "network", dict(inputs))
    alive = weakref.ref(inputs.pop("slices_hu"))
    wait_until(lambda: gc.collect() is not None and alive() is None)


def test_a_cancelled_request_is_not_computed(model, blocked_batcher):
    blocked = blocked_batcher()
    cancelled = blocked.submit(model, "network", slices(1, 1), lambda: False)
    blocked.unblock.set()
    with pytest.raises(RequestError):
        cancelled.result(30)
    assert blocked.batch_sizes == [1]


def test_zero_slices_return_empty_outputs(model):
    batcher = Batcher(BatchLimits())
    assert batcher.run(model, "network", slices(0, 0))["lesion_mask"].shape == (0, SIZE, SIZE)
    batcher.close()
