"""The numbers of one test case, and the table of all of them."""

import csv
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.ct.lesions import detect_lesions
from components.ct.metrics import Confusion, confusion
from components.ct.round_trip import round_trip_dice
from components.ct.surface import surface_agreement
from components.evaluate.labeled_scan import LabeledScan
from components.runtime.files import atomic_write

TABLE = "cases.csv"


@dataclass(frozen=True)
class CaseScore:
    """How the model did on one case, on the scan's own grid. Shares run from 0 to 1, volumes are milliliters.

    `round_trip_dice` is what a perfect answer on the network's grid would reach; `champion_dice` is that of the
    version now served, None without one. Surface and lesions are those of `components.ct`. `accuracy` stands
    beside `all_background_accuracy`, that of a model that marks no voxel at all, to show why nothing is decided by it.
    """

    case_id: str
    patient_id: str
    site: str
    intensity: str
    slices: int
    lesion_ml: float
    predicted_ml: float
    volume_error_ml: float
    dice: float
    round_trip_dice: float
    champion_dice: float | None
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
    sha256_scan: str
    sha256_mask: str


def score(
    scan: LabeledScan, prediction: NDArray[np.bool_], image_size: int, champion_dice: float | None = None
) -> CaseScore:
    """Compare a predicted mask, (n, rows, columns), with the scan's own."""
    case, voxel_ml = scan.case, scan.voxel_ml
    # Threads, since all of these are array arithmetic outside the interpreter's lock.
    with ThreadPoolExecutor() as pool:
        surfaces = pool.submit(surface_agreement, scan.truth, prediction, scan.spacing_mm)
        detection = pool.submit(detect_lesions, scan.truth, prediction)
        ceiling = pool.submit(round_trip_dice, scan.truth, image_size)
        counted = confusion(scan.truth, prediction)
    surface, found = surfaces.result(), detection.result()
    nothing = Confusion(0, 0, counted.truth, counted.total - counted.truth)
    return CaseScore(
        case_id=case.case_id,
        patient_id=case.patient_id,
        site=case.site,
        intensity=case.intensity,
        slices=len(scan.slices_hu),
        lesion_ml=counted.truth * voxel_ml,
        predicted_ml=counted.predicted * voxel_ml,
        volume_error_ml=(counted.predicted - counted.truth) * voxel_ml,
        dice=counted.dice,
        round_trip_dice=ceiling.result(),
        champion_dice=champion_dice,
        surface_dice=surface.surface_dice,
        hd95_mm=surface.hd95_mm,
        iou=counted.iou,
        sensitivity=counted.sensitivity,
        precision=counted.precision,
        specificity=counted.specificity,
        lesions=found.lesions,
        lesions_found=found.found,
        false_lesions=found.false_lesions,
        accuracy=counted.accuracy,
        all_background_dice=nothing.dice,
        all_background_accuracy=nothing.accuracy,
        sha256_scan=case.sha256_scan,
        sha256_mask=case.sha256_mask,
    )


def write_scores(folder: Path, scores: Sequence[CaseScore]) -> None:
    """Write `cases.csv` into `folder`, one row a case, the worst Dice first."""
    with atomic_write(folder / TABLE) as temporary, temporary.open("w", newline="") as file:
        table = csv.DictWriter(file, [field.name for field in fields(CaseScore)], lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(row) for row in worst_first(scores))


def worst_first(scores: Sequence[CaseScore]) -> list[CaseScore]:
    """Order by Dice, then by case id."""
    return sorted(scores, key=lambda row: (row.dice, row.case_id))
