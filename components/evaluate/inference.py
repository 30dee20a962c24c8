"""A network's answer for axial slices: first on its own grid, then on the slices' own pixels."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.ct.errors import InputError
from components.ct.grid import GridFit, fit_hu

BATCH = 32  # slices a call: enough to fill a processor, and 33 MB of probabilities at 512×512


def predict_grid(model: Any, slices_hu: NDArray[np.int16]) -> NDArray[np.float32]:
    """Ask a Keras model for the lesion probability of slices on its grid.

    Args:
        model: takes (n, size, size) HU as float32, gives probabilities of that shape or with a last axis of 1.
        slices_hu: (n, size, size) int16.

    Returns:
        (n, size, size) float32 from 0 to 1.

    Raises:
        InputError: the model answers with NaN or infinity.
    """
    answers = []
    for start in range(0, len(slices_hu), BATCH):
        batch = slices_hu[start : start + BATCH]
        answer = np.asarray(model(batch.astype(np.float32), training=False), np.float32)
        answers.append(answer.reshape(batch.shape))
    grid = np.concatenate(answers) if answers else np.empty(slices_hu.shape, np.float32)
    broken = grid.size - int(np.isfinite(grid).sum())
    if broken:
        raise InputError(f"the model answers with {broken:,} NaN or infinite probabilities; train it again")
    return grid


def lesion_probability(
    model: Any, slices_hu: NDArray[np.int16], size: int
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Go through a scan's slices in batches, so that no whole volume of probabilities is ever held.

    Args:
        model: as for `predict_grid`.
        slices_hu: (n, h, w) axial slices of any size.
        size: edge of the network's grid.

    Yields:
        Which slices, and their probabilities on their own pixels, (batch, h, w) float32.
    """
    fit = GridFit(slices_hu.shape[1], slices_hu.shape[2], size)
    for start in range(0, len(slices_hu), BATCH):
        part = slice(start, start + BATCH)
        yield part, fit.invert(predict_grid(model, fit_hu(slices_hu[part], size)))
