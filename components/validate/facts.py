"""What is so about each case: the table that the expectations are checked against."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.ct.cases import Case
from components.ct.errors import VolumeError
from components.ct.intensity import Intensity, detect_intensity, to_hu
from components.ct.labels import is_binary, label_values
from components.ct.volume import FileGrid, Volume, read_volume
from components.ct.workers import each_case
from components.validate.histogram import HuHistogram

AIR_BELOW_HU = -900  # outside the body and in airways; aerated lung lies above (Hounsfield scale)
_SAME_GRID_WITHIN = 0.1  # of the smallest voxel edge: more than what headers lose by rounding to float32
_LABELS_SHOWN = 8


@dataclass(frozen=True)
class CaseFacts:
    """One row of the fact table. `None` where a fact could not be had, such as in an unreadable file."""

    case_id: str
    patient_id: str
    source: str
    duplicate_of: str | None = None  # an earlier case with the same scan, byte for byte
    read_error: str | None = None  # why scan or mask cannot be read
    # geometry, along the patient's axes
    orientation: str | None = None  # of the file
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
    hu_p01: float | None = None
    hu_p50: float | None = None
    hu_p99: float | None = None
    hu_max: float | None = None
    hu_mean: float | None = None
    air_share: float | None = None
    # mask
    mask_labels: str | None = None
    unexpected_labels: str | None = None  # set where the mask is not one of 0 and 1
    grid_difference: str | None = None  # how the mask's grid differs from the scan's
    lesion_voxels: float | None = None
    lesion_slices: float | None = None
    lesion_share: float | None = None
    lesion_ml: float | None = None
    lesion_hu_mean: float | None = None


COLUMNS = list(CaseFacts.__dataclass_fields__)


def fact_table(folder: Path, cases: Sequence[Case], workers: int | None = None) -> pd.DataFrame:
    """Read every case of an ingested cohort and put down its facts, one row each, in the order of `cases`."""
    first_with: dict[str, str] = {}
    for case in cases:
        first_with.setdefault(case.sha256_scan, case.case_id)
    rows = []
    for facts, case in zip(each_case(partial(case_facts, folder), cases, "checked", workers), cases, strict=True):
        first = first_with[case.sha256_scan]
        rows.append(asdict(replace(facts, duplicate_of=None if first == case.case_id else first)))
    return pd.DataFrame(rows, columns=COLUMNS)


def case_facts(folder: Path, case: Case) -> CaseFacts:
    """The facts of one case; what cannot be read ends in `read_error`."""
    facts = CaseFacts(case.case_id, case.patient_id, case.source)
    try:
        scan = read_volume(case.verified_scan(folder))
        facts = _with_scan(facts, scan)
        mask = read_volume(case.verified_mask(folder))
    except VolumeError as error:
        return replace(facts, read_error=str(error))
    return _with_mask(facts, mask, scan)


def grid_difference(scan: FileGrid, mask: FileGrid) -> str | None:
    """How the mask's grid differs from the scan's, both shown; None where they are the same."""
    if scan.shape == mask.shape:
        corners = np.array(np.meshgrid(*((0, n - 1) for n in scan.shape), [1])).reshape(4, -1)
        parted_mm = np.abs(((scan.affine - mask.affine) @ corners)[:3]).max()
        edge_mm = np.linalg.norm(scan.affine[:3, :3], axis=0).min()
        if parted_mm <= _SAME_GRID_WITHIN * edge_mm:
            return None
    return f"scan {_shown(scan)}, mask {_shown(mask)}"


def _with_scan(facts: CaseFacts, scan: Volume) -> CaseFacts:
    columns, rows, slices = scan.voxels.shape
    column_mm, row_mm, slice_mm = scan.spacing_mm
    intensity = detect_intensity(scan.voxels)
    facts = replace(
        facts,
        orientation=scan.file_grid.orientation,
        columns=columns,
        rows=rows,
        slices=slices,
        column_spacing_mm=column_mm,
        row_spacing_mm=row_mm,
        slice_spacing_mm=slice_mm,
        width_mm=columns * column_mm,
        depth_mm=rows * row_mm,
        height_mm=slices * slice_mm,
        stored_dtype=str(scan.stored_dtype),
        intensity=intensity.value,
        stored_range=f"{scan.voxels.min():g} to {scan.voxels.max():g}",
    )
    return facts if intensity is Intensity.UNKNOWN else _with_hu(facts, to_hu(scan.voxels, intensity))


def _with_hu(facts: CaseFacts, hu: NDArray[np.int16]) -> CaseFacts:
    histogram = HuHistogram.of(hu)
    return replace(
        facts,
        hu_p01=histogram.percentile(1),
        hu_p50=histogram.percentile(50),
        hu_p99=histogram.percentile(99),
        hu_max=histogram.percentile(100),
        hu_mean=histogram.mean,
        air_share=histogram.share_below(AIR_BELOW_HU),
    )


def _with_mask(facts: CaseFacts, mask: Volume, scan: Volume) -> CaseFacts:
    values = label_values(mask.voxels)
    labels = " ".join(f"{value:g}" for value in values[:_LABELS_SHOWN])
    labels += f" … ({len(values)} values)" if len(values) > _LABELS_SHOWN else ""
    difference = grid_difference(scan.file_grid, mask.file_grid)
    facts = replace(facts, mask_labels=labels, grid_difference=difference)
    if not is_binary(values):
        return replace(facts, unexpected_labels=labels)
    lesion = mask.voxels != 0
    voxels = int(np.count_nonzero(lesion))
    intensity = Intensity(facts.intensity or Intensity.UNKNOWN)
    has_hu = voxels > 0 and difference is None and intensity is not Intensity.UNKNOWN
    return replace(
        facts,
        lesion_voxels=voxels,
        lesion_slices=int(lesion.any(axis=(0, 1)).sum()),
        lesion_share=voxels / lesion.size,
        lesion_ml=voxels * mask.voxel_ml,
        lesion_hu_mean=float(to_hu(scan.voxels[lesion], intensity).mean()) if has_hu else None,
    )


def _shown(grid: FileGrid) -> str:
    rows = " | ".join(" ".join(f"{value:.6g}" for value in row) for row in grid.affine[:3])
    return f"{'×'.join(map(str, grid.shape))} {grid.orientation} affine [{rows}]"
