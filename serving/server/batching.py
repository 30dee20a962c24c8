"""Requests that wait for the network: a bounded queue, and batches of those that fit together.

Nobody waits for a batch to fill. While one batch is computed, requests collect; the next batch is all of them
that fit together, up to a bound. One request alone is computed at once.
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from serving.server.errors import from_tensorflow, full
from serving.versions.saved_model import SavedModel

Arrays = Mapping[str, NDArray]


@dataclass(frozen=True)
class BatchLimits:
    """How much may wait, and how much is computed at once.

    Attributes:
        waiting: requests in the queue; one more is refused with RESOURCE_EXHAUSTED.
        slices: most slices in a batch of several requests.
        workers: batches in computation at the same time; TensorFlow spreads each over the processors itself.
    """

    waiting: int = 128
    slices: int = 32
    workers: int = 2


@dataclass(eq=False)  # one is found in the queue by itself: arrays have no single answer to "equal?"
class _Waiting:
    model: SavedModel
    signature: str
    inputs: Arrays
    wanted: Callable[[], bool]
    n: int | None  # slices, or None where it cannot be joined with others
    answer: Future[Arrays] = field(default_factory=Future)

    def key(self) -> tuple[Any, ...]:
        shapes = tuple((name, array.shape[1:]) for name, array in sorted(self.inputs.items()))
        return id(self.model), self.signature, shapes


class Batcher:
    """Runs requests on models, several in one call where they fit together.

    Args:
        limits: bounds of the queue and of a batch.
        observe: takes the number of slices of every batch computed.
    """

    def __init__(self, limits: BatchLimits, observe: Callable[[int], None] = lambda slices: None) -> None:
        self._limits = limits
        self._observe = observe
        self._queue: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._open = True
        for number in range(limits.workers):
            threading.Thread(target=self._work, name=f"batch-{number}", daemon=True).start()

    def run(
        self, model: SavedModel, signature: str, inputs: Arrays, wanted: Callable[[], bool] = lambda: True
    ) -> Arrays:
        """Wait for the outputs of one request.

        Args:
            model: what to run.
            signature: its signature's name.
            inputs: arrays that the signature takes.
            wanted: whether somebody still waits for the answer; asked before it is computed.

        Raises:
            RequestError: The queue is full, or TensorFlow fails on these arrays.
        """
        request = _Waiting(model, signature, inputs, wanted, _joinable_slices(model, signature, inputs))
        with self._changed:
            if not self._open:
                raise full("the server is stopping")
            if len(self._queue) >= self._limits.waiting:
                raise full(f"{len(self._queue)} requests are waiting already; try again later")
            self._queue.append(request)
            self._changed.notify()
        return request.answer.result()

    def waiting(self) -> int:
        """How many requests are in the queue."""
        return len(self._queue)

    def close(self) -> None:
        """Take no more requests; what waits is still computed."""
        with self._changed:
            self._open = False
            self._changed.notify_all()

    def _work(self) -> None:
        while batch := self._take():
            _answer(batch, self._observe)

    def _take(self) -> list[_Waiting]:
        """Wait for the first request still wanted, and take those along that fit to it; empty at the end."""
        with self._changed:
            while True:
                while self._queue:
                    first = self._queue.popleft()
                    if first.wanted():
                        return [first, *self._that_fit_to(first)]
                    first.answer.set_exception(full("the request was given up while it waited"))
                if not self._open:
                    return []
                self._changed.wait()

    def _that_fit_to(self, first: _Waiting) -> list[_Waiting]:
        taken: list[_Waiting] = []
        if first.n is None:
            return taken
        key, slices = first.key(), first.n
        for request in list(self._queue):
            if request.n is None or slices + request.n > self._limits.slices or request.key() != key:
                continue
            slices += request.n
            self._queue.remove(request)
            taken.append(request)
        return taken


def _joinable_slices(model: SavedModel, signature: str, inputs: Arrays) -> int | None:
    """How many slices a request has, or None where inputs and outputs do not share a free first axis."""
    definition = model.signature(signature)
    tensors = [*definition.inputs.values(), *definition.outputs.values()]
    firsts = {tensor.tensor_shape.dim[0].size if tensor.tensor_shape.dim else None for tensor in tensors}
    counts = {array.shape[0] if array.ndim else 0 for array in inputs.values()}
    return counts.pop() if firsts == {-1} and len(counts) == 1 and 0 not in counts else None


def _answer(batch: list[_Waiting], observe: Callable[[int], None]) -> None:
    """Compute a batch; where it fails, each request alone, so that one request's fault is not another's."""
    first = batch[0]
    try:
        if len(batch) == 1:
            observe(first.n or 1)
            first.answer.set_result(first.model.run(first.signature, first.inputs))
            return
        joined = {name: np.concatenate([request.inputs[name] for request in batch]) for name in first.inputs}
        outputs = first.model.run(first.signature, joined)
        ends = np.cumsum([request.n for request in batch])
        observe(int(ends[-1]))
        parts = {name: np.split(array, ends[:-1]) for name, array in outputs.items()}
        for number, request in enumerate(batch):
            request.answer.set_result({name: part[number] for name, part in parts.items()})
    except Exception as error:
        of_tensorflow = isinstance(error, tf.errors.OpError)
        if len(batch) == 1:
            first.answer.set_exception(from_tensorflow(error) if of_tensorflow else error)
        elif of_tensorflow:
            for request in batch:
                _answer([request], observe)
        else:
            for request in batch:
                request.answer.set_exception(error)
