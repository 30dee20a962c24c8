"""Validation Dice, the criterion for the best epoch: per case on the network's grid, averaged over cases."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.runtime.errors import InputError
from components.slice.shards import read_split

_BATCH = 16


@dataclass(frozen=True)
class ValidationSlices:
    """Validation slices in memory: (n, size, size) HU and lesion shares (255 is 1), and each slice's case."""

    slices_hu: NDArray[np.int16]
    lesion: NDArray[np.uint8]
    case_ids: NDArray[np.str_]


def read_validation_slices(shards: Path, size: int, limit: int) -> ValidationSlices:
    """Read every n-th validation slice, at most `limit`, to bound the validation time; n is a power of 2.

    Raises:
        InputError: a shard cannot be read, or there is no slice.
    """
    records, step = list[dict[str, NDArray]](), 1
    for index, record in enumerate(read_split(shards, "validation", size)):
        if index % step == 0:
            records.append(record)
        if len(records) > limit:
            records, step = records[::2], 2 * step
    if not records:
        raise InputError(f"{shards / 'validation'}: no slice in the shards; run slice again")
    return ValidationSlices(
        np.stack([record["slice_hu"] for record in records]),
        np.stack([record["lesion"] for record in records]),
        np.array([bytes(record["case_id"]).decode() for record in records]),
    )


def predict_on_grid(model: Any, slices_hu: NDArray[np.int16]) -> NDArray[np.float32]:
    """Return lesion probabilities of (n, size, size) slices, without `predict`'s cost of a new data pipeline."""
    probability = []
    for start in range(0, len(slices_hu), _BATCH):
        batch = slices_hu[start : start + _BATCH].astype(np.float32)
        probability.append(model.predict_on_batch(batch)[: len(batch)])  # every replica predicts the whole batch
    return np.concatenate(probability)


def mean_case_dice(probability: NDArray[np.float32], validation: ValidationSlices, threshold: float = 0.5) -> float:
    """Compute the Dice of each case over all its slices, and average it over the cases with lesion.

    If no case has lesion, a case counts 1 if its prediction is empty, and 0 otherwise.

    Args:
        probability: (n, size, size).
        validation: the n slices; a cell with a lesion share of 0.5 counts as half a cell.
        threshold: a cell is predicted as lesion from this probability on.
    """
    cases, case_of_slice = np.unique(validation.case_ids, return_inverse=True)
    prediction = probability >= threshold
    share = validation.lesion / np.float32(255)

    def sum_by_case(slices: NDArray) -> NDArray[np.float64]:
        sums = slices.sum(axis=(1, 2), dtype=np.float64)
        return np.bincount(case_of_slice, sums, minlength=len(cases)).astype(np.float64)

    shared, lesion, predicted = sum_by_case(share * prediction), sum_by_case(share), sum_by_case(prediction)
    with_lesion = lesion > 0
    if not with_lesion.any():
        return float((predicted == 0).mean())
    return float((2 * shared / np.maximum(lesion + predicted, 1e-9))[with_lesion].mean())
