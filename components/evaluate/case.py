"""One case through the network and through the champion, scored on the scan's own voxels while it is in memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.ct.cases import Case
from components.ct.inference import Network, lesion_probability
from components.ct.metrics import dice
from components.evaluate.champion import Champion
from components.evaluate.labeled_scan import LabeledScan
from components.evaluate.levels import LevelCounts
from components.evaluate.scores import CaseScore, score
from components.report.slice_image import largest_slice, overlay_svg
from components.runtime.errors import InputError


@dataclass(frozen=True)
class CaseResult:
    """What is kept of a case when its volume leaves the memory.

    Attributes:
        score: its row of the table.
        counts: its voxels by the probability they were given.
        has_lesion: (n,) bool, by slice.
        highest: (n,) float32, the highest probability in each slice.
        overlay: the slice with most lesion and both outlines, as SVG.
    """

    score: CaseScore
    counts: LevelCounts
    has_lesion: NDArray[np.bool_]
    highest: NDArray[np.float32]
    overlay: bytes


def count_levels(network: Network, folder: Path, case: Case, size: int) -> LevelCounts:
    """Count a case's voxels by the probability they are given, on the scan's own grid."""
    scan, counts = LabeledScan.read(folder, case), LevelCounts()
    for part, probability in _probability(network, scan, size):
        counts.add(probability, scan.truth[part])
    return counts


def score_case(
    network: Network, folder: Path, case: Case, size: int, threshold: float, champion: Champion | None = None
) -> CaseResult:
    """Score a case of an ingested cohort on the scan's own grid.

    Args:
        network: the model to judge.
        folder: output of ingest.
        case: which case.
        size: edge of the network's grid.
        threshold: the probability from which on a voxel counts as lesion.
        champion: the served version, scored on the same voxels at its own threshold.

    Raises:
        InputError: the case's files are not as they were recorded, or an answer is not finite.
    """
    scan, counts = LabeledScan.read(folder, case), LevelCounts()
    prediction: NDArray[np.bool_] = np.empty(scan.truth.shape, bool)
    highest = np.empty(len(scan.truth), np.float32)
    for part, probability in _probability(network, scan, size):
        counts.add(probability, scan.truth[part])
        np.greater_equal(probability, threshold, out=prediction[part])
        highest[part] = probability.max(axis=(1, 2))
    shown = largest_slice(scan.truth, prediction)
    return CaseResult(
        score(scan, prediction, size, _champion_dice(champion, scan)),
        counts,
        np.asarray(scan.truth.any(axis=(1, 2))),
        highest,
        overlay_svg(case.case_id, scan.slices_hu[shown], scan.truth[shown], prediction[shown], scan.spacing_mm[1:]),
    )


def predicted_mask(network: Network, scan: LabeledScan, size: int, threshold: float) -> NDArray[np.bool_]:
    """Where the probability reaches the threshold, (n, rows, columns) on the scan's own voxels.

    Raises:
        InputError: an answer is not finite.
    """
    prediction: NDArray[np.bool_] = np.empty(scan.truth.shape, bool)
    for part, probability in _probability(network, scan, size):
        np.greater_equal(probability, threshold, out=prediction[part])
    return prediction


def _champion_dice(champion: Champion | None, scan: LabeledScan) -> float | None:
    """The champion's Dice; None without a champion, or where its answer is no number, which shuts the gate."""
    if champion is None:
        return None
    try:
        return dice(scan.truth, predicted_mask(champion.network, scan, champion.image_size, champion.threshold))
    except InputError as error:
        print(f"warning: {champion.name}: {error}", flush=True)
        return None


def _probability(network: Network, scan: LabeledScan, size: int) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    try:
        yield from lesion_probability(network, scan.slices_hu, size)
    except InputError as error:
        raise InputError(f"case {scan.case.case_id}: {error}") from error
