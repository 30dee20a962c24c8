"""Run axial slices through a network in batches, and map its probabilities back to the slices' own pixels."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.ct.grid import GridFit, fit_hu
from components.runtime.errors import InputError

BATCH_SIZE = 32  # slices per call: enough to keep a processor busy
# Slices of native size inverted at once: 8 MB at 512×512. From 32 MB on, the C library requests fresh pages for every
# allocation, which costs as much as the computation.
_INVERT_BATCH = 8

# (BATCH_SIZE, size, size) int16 HU -> lesion probabilities of that shape, or with a last axis of 1.
Network = Callable[[NDArray[np.int16]], Any]
# Batches of (n, size, size) int16 HU -> finite probabilities (n, size, size) for each batch, in order.
PredictGrids = Callable[[Iterator[NDArray[np.int16]]], Iterator[NDArray[np.float32]]]


def keras_network(model: Any) -> Network:
    """Wrap a Keras model with float32 input as a compiled `Network`, a fifth faster than eager calls."""
    return lambda slices_hu: model.predict_on_batch(slices_hu.astype(np.float32))


def predict_slices(
    network: Network, slices_hu: NDArray[np.int16], size: int
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Predict (n, h, w) axial slices with a network in this process, see `map_to_native` and `predict_grids`."""
    return map_to_native(partial(predict_grids, network), slices_hu, size, BATCH_SIZE)


def map_to_native(
    predict: PredictGrids, slices_hu: NDArray[np.int16], size: int, batch_size: int
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Fit slices to the network's grid, predict them in batches, and invert the fit.

    Batches are fitted lazily; the probabilities of a whole volume are never in memory.

    Args:
        predict: maps batches of grid slices to their probabilities; may take several batches ahead.
        slices_hu: (n, h, w) slices of any size.
        size: edge of the network's grid.
        batch_size: slices per batch.

    Yields:
        A range of slices, and their probabilities on their own pixels, (n, h, w) float32.
    """
    fit = GridFit.for_slices(slices_hu, size)
    batches = (fit_hu(slices_hu[start : start + batch_size], size) for start in range(0, len(slices_hu), batch_size))
    offset = 0
    for grid in predict(batches):
        for start in range(0, len(grid), _INVERT_BATCH):
            part = grid[start : start + _INVERT_BATCH]
            yield slice(offset, offset + len(part)), fit.invert(part)
            offset += len(part)


def predict_grids(network: Network, batches: Iterable[NDArray[np.int16]]) -> Iterator[NDArray[np.float32]]:
    """Run a network on batches of up to `BATCH_SIZE` grid slices, one batch ahead of the caller.

    The caller's work uses the processors that the network leaves idle.

    Raises:
        InputError: the network returns NaN or infinity.
    """
    remaining = iter(batches)

    def predict_next() -> NDArray[np.float32] | None:
        batch = next(remaining, None)
        return None if batch is None else _predict_grid(network, batch)

    with ThreadPoolExecutor(1) as thread:
        pending = thread.submit(predict_next)
        while (grid := pending.result()) is not None:
            pending = thread.submit(predict_next)
            yield grid


def _predict_grid(network: Network, batch: NDArray[np.int16]) -> NDArray[np.float32]:
    # Always a full batch: every other size would compile the graph again.
    full = np.pad(batch, ((0, BATCH_SIZE - len(batch)), (0, 0), (0, 0)), mode="edge")
    grid = np.asarray(network(full), np.float32).reshape(full.shape)[: len(batch)]
    non_finite = grid.size - int(np.isfinite(grid).sum())
    if non_finite:
        raise InputError(f"the model returns {non_finite:,} NaN or infinite probabilities; train it again")
    return grid
