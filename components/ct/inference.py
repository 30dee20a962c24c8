"""A network's answer for axial slices: first on its own grid, then on the slices' own pixels."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.ct.grid import GridFit, fit_hu
from components.runtime.errors import InputError

BATCH = 32  # slices a call: enough to fill a processor
# Slices of native size at a time: 8 MB at 512×512. From 32 MB on the C library asks for fresh pages each time, which
# costs as much as the work on them.
_AT_ONCE = 8

# Takes (BATCH, size, size) int16 HU; gives lesion probabilities of that shape, or with a last axis of 1.
Network = Callable[[NDArray[np.int16]], Any]


def keras_network(model: Any) -> Network:
    """A Keras model that takes float32 as a `Network`, compiled: a call op by op costs a fifth more time."""
    return lambda slices_hu: model.predict_on_batch(slices_hu.astype(np.float32))


def predict_grid(network: Network, slices_hu: NDArray[np.int16]) -> NDArray[np.float32]:
    """Ask a network for the lesion probability of slices on its grid.

    Args:
        network: asked for `BATCH` slices at a time.
        slices_hu: (n, size, size) int16.

    Returns:
        (n, size, size) float32 from 0 to 1.

    Raises:
        InputError: the network answers with NaN or infinity.
    """
    answers = [np.empty((0, *slices_hu.shape[1:]), np.float32)]
    for start in range(0, len(slices_hu), BATCH):
        batch = slices_hu[start : start + BATCH]
        # Always a full batch, since a graph is compiled anew for every size.
        full = np.pad(batch, ((0, BATCH - len(batch)), (0, 0), (0, 0)), mode="edge")
        answers.append(np.asarray(network(full), np.float32).reshape(full.shape)[: len(batch)])
    grid = np.concatenate(answers)
    broken = grid.size - int(np.isfinite(grid).sum())
    if broken:
        raise InputError(f"the model answers with {broken:,} NaN or infinite probabilities; train it again")
    return grid


def lesion_probability(
    network: Network, slices_hu: NDArray[np.int16], size: int
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Go through a scan's slices in batches, so that no whole volume of probabilities is ever held.

    While the caller works on a batch, the network is at the next one: it leaves processors idle now and then.

    Args:
        network: as for `predict_grid`.
        slices_hu: (n, h, w) axial slices of any size.
        size: edge of the network's grid.

    Yields:
        Which slices, a few at a time, and their probabilities on their own pixels, (few, h, w) float32.
    """
    fit = GridFit(slices_hu.shape[1], slices_hu.shape[2], size)
    parts = [slice(start, start + BATCH) for start in range(0, len(slices_hu), BATCH)]
    with ThreadPoolExecutor(1) as ahead:

        def asked(part: slice) -> Future[NDArray[np.float32]]:
            return ahead.submit(lambda: predict_grid(network, fit_hu(slices_hu[part], size)))

        waiting = asked(parts[0])
        for part, following in zip_longest(parts, parts[1:]):
            grid = waiting.result()
            if following:
                waiting = asked(following)
            for start in range(0, len(grid), _AT_ONCE):
                few = grid[start : start + _AT_ONCE]
                yield slice(part.start + start, part.start + start + len(few)), fit.invert(few)
