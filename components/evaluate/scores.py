"""Predict a test case, score it on the scan's own voxels while it is in memory, and write the table of scores."""

import csv
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from components.ct.cases import Case
from components.ct.inference import Network, predict_slices
from components.ct.lesions import detect_lesions
from components.ct.metrics import Confusion, confusion, dice
from components.ct.round_trip import round_trip_dice
from components.ct.surface import surface_agreement
from components.evaluate.champion import Champion
from components.evaluate.labeled_scan import LabeledScan
from components.evaluate.levels import LevelCounts
from components.report.slice_image import largest_lesion_slice, overlay_svg
from components.runtime.errors import InputError
from components.runtime.files import atomic_write

SCORES_FILE = "cases.csv"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GateCase:
    """What the gate's rules read of a test case. Dice runs from 0 to 1, volumes are in milliliters."""

    case_id: str
    patient_id: str
    site: str
    lesion_ml: float
    predicted_ml: float
    dice: float  # without lesion a convention, 1 or 0, which enters no mean
    champion_dice: float | None  # of the served version, None without one
    sha256_scan: str
    sha256_mask: str


Row = TypeVar("Row", bound=GateCase)


@dataclass(frozen=True)
class CaseScore(GateCase):
    """All metrics of one case on the scan's own voxels. Rates run from 0 to 1, volumes are in milliliters.

    `round_trip_dice` is that of `components.ct.round_trip`. `all_background_*` score a prediction without any lesion,
    to show why no rule uses accuracy.
    """

    intensity: str
    slices: int
    volume_error_ml: float
    round_trip_dice: float
    surface_dice: float
    hd95_mm: float
    iou: float
    sensitivity: float
    precision: float
    specificity: float
    lesions: int
    lesions_found: int
    false_lesions: int
    accuracy: float
    all_background_dice: float
    all_background_accuracy: float

    @property
    def summary(self) -> str:
        """What the case is judged by, for the log."""
        return f"Dice {self.dice:.3f}" if self.lesion_ml else f"no lesion, {self.predicted_ml:.2f} mL predicted"


@dataclass(frozen=True)
class CaseResult:
    """The results of a case, kept after its volume is freed."""

    score: CaseScore
    counts: LevelCounts
    has_lesion: NDArray[np.bool_]  # (n,) by slice
    peak: NDArray[np.float32]  # (n,) highest probability of each slice
    overlay: bytes  # the slice with most lesion and both outlines, as SVG


def count_levels(network: Network, folder: Path, case: Case, size: int) -> LevelCounts:
    """Count a case's voxels by predicted probability, on the scan's own voxels."""
    scan, counts = LabeledScan.read(folder, case), LevelCounts()
    for part, probability in _predict(network, scan, size):
        counts.add(probability, scan.truth[part])
    return counts


def predict_mask(network: Network, scan: LabeledScan, *, size: int, threshold: float) -> NDArray[np.bool_]:
    """Predict a scan's mask, (n, rows, columns) on its own voxels; raise `InputError` for NaN or infinity."""
    mask: NDArray[np.bool_] = np.empty(scan.truth.shape, bool)
    for part, probability in _predict(network, scan, size):
        np.greater_equal(probability, threshold, out=mask[part])
    return mask


def score_case(
    network: Network, folder: Path, case: Case, *, size: int, threshold: float, champion: Champion | None = None
) -> CaseResult:
    """Predict and score one case.

    Args:
        network: the model under evaluation.
        folder: output of ingest.
        case: the case.
        size: edge of the network's grid.
        threshold: probability from which a voxel counts as lesion.
        champion: the served version, scored on the same voxels at its own threshold.

    Raises:
        InputError: the case's files differ from the case table, or the network returns NaN or infinity.
    """
    scan, counts = LabeledScan.read(folder, case), LevelCounts()
    truth, peak = scan.truth, np.empty(len(scan.truth), np.float32)
    prediction: NDArray[np.bool_] = np.empty(truth.shape, bool)
    for part, probability in _predict(network, scan, size):
        counts.add(probability, truth[part])
        np.greater_equal(probability, threshold, out=prediction[part])
        peak[part] = probability.max(axis=(1, 2))
    index = largest_lesion_slice(truth, prediction)
    return CaseResult(
        _score(scan, prediction, size, _champion_dice(champion, scan)),
        counts,
        np.asarray(truth.any(axis=(1, 2))),
        peak,
        overlay_svg(case.case_id, scan.slices_hu[index], truth[index], prediction[index], scan.spacing_mm[1:]),
    )


def write_scores(folder: Path, scores: Sequence[CaseScore]) -> None:
    """Write the table of scores into `folder`, one row per case, the worst Dice first."""
    with atomic_write(folder / SCORES_FILE) as temporary, temporary.open("w", newline="") as file:
        table = csv.DictWriter(file, [field.name for field in fields(CaseScore)], lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(row) for row in worst_first(scores))


def with_lesion(scores: Sequence[Row]) -> list[Row]:
    """Select the cases with lesion, the only ones whose Dice measures a model; a volume of NaN counts as lesion."""
    return [row for row in scores if row.lesion_ml != 0]


def worst_first(scores: Sequence[CaseScore]) -> list[CaseScore]:
    """Sort by Dice, then by case id."""
    return sorted(scores, key=lambda row: (row.dice, row.case_id))


def _predict(network: Network, scan: LabeledScan, size: int) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    try:
        yield from predict_slices(network, scan.slices_hu, size)
    except InputError as error:
        raise InputError(f"case {scan.case.case_id}: {error}") from error


def _champion_dice(champion: Champion | None, scan: LabeledScan) -> float | None:
    """Score the champion; None without one, or where its prediction is not finite, which fails the gate."""
    if champion is None:
        return None
    try:
        mask = predict_mask(champion.network, scan, size=champion.image_size, threshold=champion.threshold)
    except InputError as error:
        _log.warning("%s: %s", champion.name, error)
        return None
    return dice(scan.truth, mask)


def _score(scan: LabeledScan, prediction: NDArray[np.bool_], size: int, champion_dice: float | None) -> CaseScore:
    case, truth, voxel_ml = scan.case, scan.truth, scan.voxel_ml
    # Threads help: these are array operations that release the GIL.
    with ThreadPoolExecutor() as pool:
        surface = pool.submit(surface_agreement, truth, prediction, scan.spacing_mm)
        detection = pool.submit(detect_lesions, truth, prediction)
        round_trip = pool.submit(round_trip_dice, truth, size)
        voxels = confusion(truth, prediction)
    lesions = detection.result()
    all_background = Confusion(
        true_positive=0, false_positive=0, false_negative=voxels.truth, true_negative=voxels.total - voxels.truth
    )
    return CaseScore(
        case_id=case.case_id,
        patient_id=case.patient_id,
        site=case.site,
        intensity=case.intensity,
        slices=len(truth),
        lesion_ml=voxels.truth * voxel_ml,
        predicted_ml=voxels.predicted * voxel_ml,
        volume_error_ml=(voxels.predicted - voxels.truth) * voxel_ml,
        dice=voxels.dice,
        round_trip_dice=round_trip.result(),
        champion_dice=champion_dice,
        surface_dice=surface.result().surface_dice,
        hd95_mm=surface.result().hd95_mm,
        iou=voxels.iou,
        sensitivity=voxels.sensitivity,
        precision=voxels.precision,
        specificity=voxels.specificity,
        lesions=lesions.lesions,
        lesions_found=lesions.lesions_found,
        false_lesions=lesions.false_lesions,
        accuracy=voxels.accuracy,
        all_background_dice=all_background.dice,
        all_background_accuracy=all_background.accuracy,
        sha256_scan=case.sha256_scan,
        sha256_mask=case.sha256_mask,
    )
