"""The numbers of one test case, and the table of all of them."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.ct.atomic import written_whole
from components.ct.metrics import Confusion, confusion
from components.evaluate.labelled_scan import LabelledScan

TABLE = "cases.csv"


@dataclass(frozen=True)
class CaseScore:
    """How the model did on one case, on the scan's own grid. Shares run from 0 to 1, volumes are millilitres.

    `accuracy` stands beside `accuracy_of_nothing`, that of a model that marks no voxel at all, to show why
    nothing is decided by it.
    """

    case_id: str
    patient_id: str
    source: str
    intensity: str
    slices: int
    lesion_ml: float
    predicted_ml: float
    volume_error_ml: float
    dice: float
    iou: float
    sensitivity: float
    precision: float
    specificity: float
    accuracy: float
    dice_of_nothing: float
    accuracy_of_nothing: float
    sha256_scan: str
    sha256_mask: str


def score(scan: LabelledScan, prediction: NDArray[np.bool_]) -> CaseScore:
    """Compare a predicted mask, (n, rows, columns), with the scan's own."""
    case, voxel_ml, counted = scan.case, scan.voxel_ml, confusion(scan.truth, prediction)
    nothing = Confusion(0, 0, counted.truth, counted.total - counted.truth)
    return CaseScore(
        case_id=case.case_id,
        patient_id=case.patient_id,
        source=case.source,
        intensity=case.intensity,
        slices=len(scan.slices_hu),
        lesion_ml=counted.truth * voxel_ml,
        predicted_ml=counted.predicted * voxel_ml,
        volume_error_ml=(counted.predicted - counted.truth) * voxel_ml,
        dice=counted.dice,
        iou=counted.iou,
        sensitivity=counted.sensitivity,
        precision=counted.precision,
        specificity=counted.specificity,
        accuracy=counted.accuracy,
        dice_of_nothing=nothing.dice,
        accuracy_of_nothing=nothing.accuracy,
        sha256_scan=case.sha256_scan,
        sha256_mask=case.sha256_mask,
    )


def write_scores(folder: Path, scores: Sequence[CaseScore]) -> None:
    """Write `cases.csv` into `folder`, one row a case, the worst Dice first."""
    with written_whole(folder / TABLE) as temporary, temporary.open("w", newline="") as file:
        table = csv.DictWriter(file, [field.name for field in fields(CaseScore)], lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(row) for row in worst_first(scores))


def worst_first(scores: Sequence[CaseScore]) -> list[CaseScore]:
    """Order by Dice, then by case id."""
    return sorted(scores, key=lambda row: (row.dice, row.case_id))
