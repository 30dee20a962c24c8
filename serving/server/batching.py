"""A bounded request queue whose requests are computed in batches.

No request waits for a batch to fill: while one batch is computed, requests queue up, and the next batch joins all
of them that share model, signature and slice shape, up to a limit. A single request is computed at once, a large one in
several batches.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from serving.server.errors import RequestError, invalid_argument, resource_exhausted, to_request_error
from serving.server.tensors import request_bytes
from serving.versions.saved_model import SavedModel

Arrays = Mapping[str, NDArray]


@dataclass(frozen=True)
class BatchLimits:
    """Limits of the queue and of a batch."""

    queue_size: int = 128  # requests; further ones fail with RESOURCE_EXHAUSTED
    queue_bytes: int = 1 << 30  # inputs and outputs of the requests in the queue and in computation
    batch_slices: int = 32  # most slices in a batch
    batch_values: int = 1 << 24  # most input values in a batch of several slices: 64 slices of 512×512
    workers: int = 2  # batches computed at the same time; TensorFlow itself uses all cores for each


class ByteBudget:
    """Memory that requests share; one that does not fit fails with RESOURCE_EXHAUSTED."""

    def __init__(self, limit: int) -> None:
        self._free, self._lock = limit, threading.Lock()

    @contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        """Take `size` bytes until the block ends; raise `RequestError` if they are not free."""
        with self._lock:
            if size > self._free:
                raise resource_exhausted("the requests in progress take too much memory; try again later")
            self._free -= size
        try:
            yield
        finally:
            with self._lock:
                self._free += size


@dataclass(eq=False)  # compared by identity: the arrays have no single truth value
class _QueuedRequest:
    model: SavedModel
    signature_name: str
    inputs: Arrays
    is_active: Callable[[], bool]
    slices: int | None  # None: cannot share a batch, nor be computed in several
    batch_slices: int  # most slices of its shape in a batch
    outputs: Future[Arrays] = field(default_factory=Future)

    def batch_key(self) -> tuple[Any, ...]:
        """Return a value that is equal for requests that can share a batch."""
        shapes = tuple((name, array.shape[1:]) for name, array in sorted(self.inputs.items()))
        return id(self.model), self.signature_name, shapes


class Batcher:
    """Runs requests on models, several in one call where possible.

    Args:
        limits: limits of the queue and of a batch.
        on_batch: called with the number of slices of every computed batch.
    """

    def __init__(self, limits: BatchLimits, on_batch: Callable[[int], None] = lambda slices: None) -> None:
        self._limits = limits
        self._on_batch = on_batch
        self._queue: deque[_QueuedRequest] = deque()
        self._budget = ByteBudget(limits.queue_bytes)
        self._condition = threading.Condition()
        self._open = True
        for number in range(limits.workers):
            threading.Thread(target=self._run_batches, name=f"batch-{number}", daemon=True).start()

    def run(
        self, model: SavedModel, signature_name: str, inputs: Arrays, is_active: Callable[[], bool] = lambda: True
    ) -> Arrays:
        """Queue a request with arrays that match the signature, and return its outputs.

        The request is dropped if `is_active`, called right before the computation, returns False.

        Raises:
            RequestError: The request is too large, the queue is full, or TensorFlow fails on the inputs.
        """
        shapes = {name: array.shape for name, array in inputs.items()}
        size = request_bytes(model.signature(signature_name), shapes)
        if problem := model.pixel_problem(shapes):  # the graph would see only a part of a large request
            raise invalid_argument(problem)
        slices = _batchable_slices(model, signature_name, inputs)
        values = sum(array.size for array in inputs.values()) // (slices or 1)
        batch_slices = max(1, min(self._limits.batch_slices, self._limits.batch_values // max(values, 1)))
        request = _QueuedRequest(model, signature_name, inputs, is_active, slices, batch_slices)
        with self._budget.reserve(size):
            with self._condition:
                if not self._open:
                    raise resource_exhausted("the server is stopping")
                if len(self._queue) >= self._limits.queue_size:
                    raise resource_exhausted(f"the queue is full ({len(self._queue)} requests); try again later")
                self._queue.append(request)
                self._condition.notify()
            return request.outputs.result()

    def queue_length(self) -> int:
        """Return the number of requests in the queue."""
        return len(self._queue)

    def close(self) -> None:
        """Reject new requests; those in the queue are still computed."""
        with self._condition:
            self._open = False
            self._condition.notify_all()

    def _run_batches(self) -> None:
        while self._run_next_batch():
            pass

    def _run_next_batch(self) -> bool:
        """Wait for a batch and compute it; nothing refers to its arrays afterwards. Return False after `close`."""
        batch = self._next_batch()
        if batch:
            _compute(batch, self._on_batch)
        return bool(batch)

    def _next_batch(self) -> list[_QueuedRequest]:
        """Wait for an active request and return it with those that can share its batch; empty after `close`."""
        with self._condition:
            while True:
                while self._queue:
                    first = self._queue.popleft()
                    if first.is_active():
                        return [first, *self._pop_batchable(first)]
                    first.outputs.set_exception(_cancelled())
                if not self._open:
                    return []
                self._condition.wait()

    def _pop_batchable(self, first: _QueuedRequest) -> list[_QueuedRequest]:
        batch: list[_QueuedRequest] = []
        if first.slices is None:
            return batch
        key, slices = first.batch_key(), first.slices
        for request in list(self._queue):
            fits = request.slices is not None and slices + request.slices <= first.batch_slices
            if fits and request.batch_key() == key:
                slices += request.slices or 0
                self._queue.remove(request)
                batch.append(request)
        return batch


def _cancelled() -> RequestError:
    return RequestError(grpc.StatusCode.CANCELLED, "the client cancelled the request")


def _batchable_slices(model: SavedModel, signature_name: str, inputs: Arrays) -> int | None:
    """Return the number of slices, or None unless all inputs and outputs share a variable first axis."""
    signature = model.signature(signature_name)
    tensors = [*signature.inputs.values(), *signature.outputs.values()]
    first_axes = {tensor.tensor_shape.dim[0].size if tensor.tensor_shape.dim else None for tensor in tensors}
    counts = {array.shape[0] if array.ndim else 0 for array in inputs.values()}
    return counts.pop() if first_axes == {-1} and len(counts) == 1 and 0 not in counts else None


def _compute(batch: list[_QueuedRequest], on_batch: Callable[[int], None]) -> None:
    """Run a batch; if it fails, run each request alone, and only the faulty ones fail."""
    first, counts = batch[0], [request.slices or 1 for request in batch]
    try:
        if len(batch) == 1:
            results = [_run_in_parts(first, on_batch)]
        else:
            inputs = {name: np.concatenate([request.inputs[name] for request in batch]) for name in first.inputs}
            outputs = first.model.run(first.signature_name, inputs)
            on_batch(sum(counts))
            parts = {name: np.split(array, np.cumsum(counts)[:-1]) for name, array in outputs.items()}
            results = [{name: part[index] for name, part in parts.items()} for index in range(len(batch))]
        for request, result in zip(batch, results, strict=True):
            request.outputs.set_result(result)
    except Exception as error:
        if len(batch) == 1:
            first.outputs.set_exception(to_request_error(error))
            return
        for request in batch:
            _compute([request], on_batch)


def _run_in_parts(request: _QueuedRequest, on_batch: Callable[[int], None]) -> Arrays:
    """Run one request, at most `batch_slices` of its slices at a time."""
    slices, step = request.slices, request.batch_slices
    if slices is None or slices <= step:
        outputs = request.model.run(request.signature_name, request.inputs)
        on_batch(slices or 1)
        return outputs
    whole: dict[str, NDArray] = {}
    for start in range(0, slices, step):
        if not request.is_active():
            raise _cancelled()
        inputs = {name: array[start : start + step] for name, array in request.inputs.items()}
        for name, part in request.model.run(request.signature_name, inputs).items():
            if name not in whole:
                whole[name] = np.empty((slices, *part.shape[1:]), part.dtype)
            whole[name][start : start + step] = part
        on_batch(min(step, slices - start))
    return whole
