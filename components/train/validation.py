"""The number by which the best epoch is chosen: Dice for each validation case on the grid, averaged over cases."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.train.examples import ValidationSlices

_BATCH = 16


def predict_slices(model: Any, slices_hu: NDArray[np.int16]) -> NDArray[np.float32]:
    """Lesion probabilities of (n, size, size) slices, without `predict`'s cost of a new data pipeline each time."""
    answers = []
    for start in range(0, len(slices_hu), _BATCH):
        part = slices_hu[start : start + _BATCH].astype(np.float32)
        answers.append(model.predict_on_batch(part)[: len(part)])  # every replica answers all of it
    return np.concatenate(answers)


def mean_case_dice(probability: NDArray[np.float32], validation: ValidationSlices, threshold: float = 0.5) -> float:
    """Dice of each case from all of its slices together, averaged over the cases.

    A case without lesion counts 1 if nothing was found in it and 0 otherwise, but only where no case has any;
    beside others it would drown them.

    Args:
        probability: (n, size, size).
        validation: the n slices, with shares of lesion: a cell that is half lesion adds half a cell.
        threshold: from which probability on a cell counts as found.
    """
    cases, case_of_slice = np.unique(validation.case_ids, return_inverse=True)
    found = probability >= threshold
    share = validation.lesion / np.float32(255)

    def per_case(of_slices: NDArray) -> NDArray[np.float64]:
        sums = of_slices.sum(axis=(1, 2), dtype=np.float64)
        return np.bincount(case_of_slice, sums, minlength=len(cases)).astype(np.float64)

    shared, lesion, detected = per_case(share * found), per_case(share), per_case(found)
    with_lesion = lesion > 0
    if not with_lesion.any():
        return float((detected == 0).mean())
    return float((2 * shared / np.maximum(lesion + detected, 1e-9))[with_lesion].mean())
