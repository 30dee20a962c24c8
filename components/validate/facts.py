"""The fact table: one row of measurements for each case, the input of the expectation suite."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import pandas as pd

from components.ct.cases import Case


@dataclass(frozen=True)
class CaseFacts:
    """A row of the fact table. None marks an unavailable fact, such as the spacing of an unreadable file."""

    case_id: str
    patient_id: str
    site: str
    # comparisons with other cases, see `fact_table`
    patient_scans: float | None = None  # scans of this patient
    patient_lung_ratio: float | None = None  # largest to smallest lung volume among the patient's scans
    duplicate_of: str | None = None  # an earlier case with an identical scan file
    mask_duplicate_of: str | None = None  # an earlier case with an identical mask file that has a lesion
    read_error: str | None = None  # error on reading scan or mask
    # geometry along the patient's axes
    orientation: str | None = None  # of the file
    geometry_notes: str | None = None  # doubts about the grid, see `components.ct.geometry`
    oblique_degrees: float | None = None  # largest angle between an axis of the file and the closest patient axis
    columns: float | None = None
    rows: float | None = None
    slices: float | None = None
    column_spacing_mm: float | None = None
    row_spacing_mm: float | None = None
    slice_spacing_mm: float | None = None
    width_mm: float | None = None
    depth_mm: float | None = None
    height_mm: float | None = None
    # intensities
    stored_dtype: str | None = None
    intensity: str | None = None
    scale_problem: str | None = None  # why the values cannot be HU or 8-bit windowed
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
    empty_slices: float | None = None  # slices without tissue
    lung_ml: float | None = None  # air inside the body; None if the scan is cropped or lower than a lung
    # mask
    mask_labels: str | None = None
    unexpected_labels: str | None = None  # set unless the mask is binary
    grid_difference: str | None = None  # both grids, if the mask's differs from the scan's
    lesion_count: float | None = None  # components connected over faces, edges or corners
    lesion_voxels: float | None = None
    lesion_slices: float | None = None
    lesion_share: float | None = None
    lesion_ml: float | None = None
    largest_lesion_ml: float | None = None
    lesion_hu_mean: float | None = None
    lesion_outside_share: float | None = None  # share of the lesion outside the body


COLUMNS = [field.name for field in fields(CaseFacts)]


def fact_table(facts: Sequence[CaseFacts], cases: Sequence[Case]) -> pd.DataFrame:
    """Build the fact table and add the comparisons between cases; facts and cases have the same order."""
    table = pd.DataFrame([asdict(row) for row in facts], columns=COLUMNS)
    table["patient_scans"] = table.groupby("patient_id").case_id.transform("size")
    lungs = table.lung_ml.astype(float).where(lambda ml: ml > 0).groupby(table.patient_id)
    has_several = lungs.transform("count") > 1
    table["patient_lung_ratio"] = (lungs.transform("max") / lungs.transform("min")).where(has_several)
    table["duplicate_of"] = _earlier_case(table.case_id, [case.sha256_scan for case in cases])
    # Empty masks of one shape are identical files, but not duplicates.
    has_lesion = table.read_error.isna() & (table.lesion_voxels != 0)
    table["mask_duplicate_of"] = _earlier_case(table.case_id, [case.sha256_mask for case in cases]).where(has_lesion)
    return table


def _earlier_case(case_ids: pd.Series, digests: Sequence[str]) -> pd.Series:
    """First case with the same digest; missing if that is the case itself."""
    first = case_ids.groupby(pd.Series(digests)).transform("first")
    return first.where(first != case_ids)
