"""What is so about each case: the columns of the table that the expectations are checked against."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby

import pandas as pd

from components.ct.cases import Case


@dataclass(frozen=True)
class CaseFacts:
    """One row of the fact table. `None` where a fact could not be had, such as in an unreadable file."""

    case_id: str
    patient_id: str
    site: str
    # about the cohort, seen from the case
    patient_scans: float | None = None  # scans of this patient
    patient_lung_ratio: float | None = None  # the largest lung volume among the patient's scans, to the smallest
    duplicate_of: str | None = None  # an earlier case with the same scan, byte for byte
    mask_duplicate_of: str | None = None  # an earlier case with the same mask, byte for byte, that has a lesion
    read_error: str | None = None  # why scan or mask cannot be read
    # geometry, along the patient's axes
    orientation: str | None = None  # of the file
    oblique_degrees: float | None = None  # largest angle between an axis of the file and the patient's closest one
    columns: float | None = None
    rows: float | None = None
    slices: float | None = None
    column_spacing_mm: float | None = None
    row_spacing_mm: float | None = None
    slice_spacing_mm: float | None = None
    width_mm: float | None = None
    depth_mm: float | None = None
    height_mm: float | None = None
    # numbers
    stored_dtype: str | None = None
    intensity: str | None = None
    stored_range: str | None = None
    hu_min: float | None = None
    hu_p01: float | None = None
    hu_p25: float | None = None
    hu_p50: float | None = None
    hu_p75: float | None = None
    hu_p99: float | None = None
    hu_max: float | None = None
    hu_mean: float | None = None
    hu_sd: float | None = None
    air_share: float | None = None
    # anatomy
    empty_slices: float | None = None  # slices without any tissue
    lung_ml: float | None = None  # air within the body; None where the scan is cropped or shows less than a lung
    # mask
    mask_labels: str | None = None
    unexpected_labels: str | None = None  # set where the mask is not one of 0 and 1
    grid_difference: str | None = None  # how the mask's grid differs from the scan's
    lesion_count: float | None = None  # pieces that hang together over faces, edges or corners
    lesion_voxels: float | None = None
    lesion_slices: float | None = None
    lesion_share: float | None = None
    lesion_ml: float | None = None
    largest_lesion_ml: float | None = None
    lesion_hu_mean: float | None = None
    lesion_outside_share: float | None = None  # share of the lesion outside the body


COLUMNS = list(CaseFacts.__dataclass_fields__)


def fact_table(facts: Sequence[CaseFacts], cases: Sequence[Case]) -> pd.DataFrame:
    """The facts as one row each, in their order, with those that take a look at the other cases.

    Args:
        facts: of the cases by themselves.
        cases: their rows of the case table, in the same order.
    """
    scans, masks = _firsts([case.sha256_scan for case in cases]), _firsts([case.sha256_mask for case in cases])
    scans_of, ratio_of = _patients(facts)
    rows = []
    for index, (row, scan, mask) in enumerate(zip(facts, scans, masks, strict=True)):
        # All empty masks of one shape are the same bytes, which tells nothing.
        copied = mask != index and not row.read_error and row.lesion_voxels != 0
        row = replace(
            row,
            patient_scans=scans_of[row.patient_id],
            patient_lung_ratio=ratio_of.get(row.patient_id),
            duplicate_of=None if scan == index else facts[scan].case_id,
            mask_duplicate_of=facts[mask].case_id if copied else None,
        )
        rows.append(asdict(row))
    return pd.DataFrame(rows, columns=COLUMNS)


def _firsts(digests: Sequence[str]) -> list[int]:
    """For each digest the index where it stands for the first time."""
    first: dict[str, int] = {}
    return [first.setdefault(digest, index) for index, digest in enumerate(digests)]


def _patients(facts: Sequence[CaseFacts]) -> tuple[dict[str, int], dict[str, float]]:
    """Scans of each patient; and the ratio of the lung volumes, of those with more than one."""
    scans, ratio = {}, {}
    for patient, group in groupby(sorted(facts, key=lambda row: row.patient_id), lambda row: row.patient_id):
        rows = list(group)
        scans[patient] = len(rows)
        lungs = [row.lung_ml for row in rows if row.lung_ml]
        if len(lungs) > 1:
            ratio[patient] = max(lungs) / min(lungs)
    return scans, ratio
