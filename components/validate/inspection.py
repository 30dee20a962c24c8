"""Inspect a case: read its scan and mask once, for facts, profile, resize audit and picture."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from components.ct.cases import Case
from components.ct.geometry import is_same_grid
from components.ct.grid import axial_slices
from components.ct.intensity import Intensity, classify_range, find_scale_problem, to_hu, value_range
from components.ct.lesions import Lesions
from components.ct.masks import is_binary, unique_labels
from components.ct.volume import FileGrid, Volume, read_volume
from components.report.slice_image import largest_lesion_slice, thumbnail_png
from components.runtime.errors import VolumeError
from components.validate.anatomy import AIR_MAX_HU, Anatomy
from components.validate.facts import CaseFacts
from components.validate.histogram import HuHistogram
from components.validate.profile import HU_EDGES
from components.validate.resize_audit import ResizeAudit, audit_resize

_MAX_LABELS = 8  # in a message
_MAX_HISTOGRAM_VOXELS = 1 << 22
_MIN_LUNG_HEIGHT_MM = 150  # a lower scan does not contain whole lungs
_PERCENTILES = (1, 25, 50, 75, 99)


@dataclass(frozen=True)
class Inspection:
    """The results for one case; None marks what is unavailable."""

    facts: CaseFacts
    hu_shares: NDArray[np.float64] | None = None  # share of voxels in each bin of `HU_EDGES`
    resize: ResizeAudit | None = None
    picture: bytes | None = None  # PNG of a slice with the mask outlined; of the scan alone if the grids differ

    def with_facts(self, **facts: Any) -> Self:
        """Return a copy with further facts."""
        return replace(self, facts=replace(self.facts, **facts))


def inspect_case(folder: Path, case: Case, image_size: int) -> Inspection:
    """Inspect a case of the artifact in `folder`; an unreadable scan or mask sets the fact `read_error`."""
    inspection = Inspection(CaseFacts(case.case_id, case.patient_id, case.site))
    try:
        scan = read_volume(case.verified_scan(folder))
        inspection, hu = _add_scan(inspection, scan)
        mask = read_volume(case.verified_mask(folder))
    except VolumeError as error:
        return inspection.with_facts(read_error=str(error))
    difference = grid_difference(scan.file_grid, mask.file_grid)
    values = unique_labels(mask.voxels)
    labels = _format_labels(values)
    inspection = inspection.with_facts(mask_labels=labels, grid_difference=difference)
    if not is_binary(values):
        return inspection.with_facts(unexpected_labels=labels)
    slices_mask = axial_slices(mask.voxels)
    lesions = Lesions.from_mask(slices_mask)
    inspection = replace(inspection, resize=audit_resize(case.case_id, slices_mask, lesions, image_size)).with_facts(
        lesion_count=lesions.count,
        lesion_voxels=lesions.voxels,
        lesion_slices=int(lesions.labels.any(axis=(1, 2)).sum()),
        lesion_share=lesions.voxels / mask.voxels.size,
        lesion_ml=lesions.voxels * mask.voxel_ml,
        largest_lesion_ml=lesions.largest * mask.voxel_ml,
    )
    if hu is None or difference is not None:
        return inspection
    return _add_mask_on_scan(inspection, axial_slices(hu), slices_mask, lesions, scan)


def grid_difference(scan: FileGrid, mask: FileGrid) -> str | None:
    """Describe both grids if they differ."""
    if scan.shape[:3] == mask.shape[:3] and is_same_grid(scan.shape, scan.affine, mask.affine):
        return None
    return f"scan {_format_grid(scan)}, mask {_format_grid(mask)}"


def _add_scan(inspection: Inspection, scan: Volume) -> tuple[Inspection, NDArray[np.int16] | None]:
    """Add the facts of the scan; also return its voxels in HU, or None if their intensity is unknown."""
    columns, rows, slices = scan.voxels.shape
    column_mm, row_mm, slice_mm = scan.spacing_mm
    low, high = value_range(scan.voxels)
    intensity = classify_range(low, high)
    inspection = inspection.with_facts(
        orientation=scan.file_grid.orientation,
        geometry_notes="; ".join(scan.notes) or None,
        oblique_degrees=float(np.degrees(nib.affines.obliquity(scan.file_grid.affine).max())),
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
        scale_problem=find_scale_problem(scan.voxels, intensity),
        stored_range=f"{low:g} to {high:g}",
    )
    if intensity is Intensity.UNKNOWN:
        return inspection, None
    hu = to_hu(scan.voxels, intensity)
    histogram = HuHistogram.from_voxels(hu, step=-(-hu.size // _MAX_HISTOGRAM_VOXELS))
    hu_shares = histogram.bin_shares(HU_EDGES)
    hu_min, hu_max = to_hu(np.array([low, high]), intensity)  # the conversion preserves order
    middle = axial_slices(hu)[slices // 2]
    picture = thumbnail_png(middle, np.zeros_like(middle), (row_mm, column_mm))
    return replace(inspection, hu_shares=hu_shares, picture=picture).with_facts(
        hu_min=float(hu_min),
        hu_max=float(hu_max),
        hu_mean=histogram.mean,
        hu_sd=histogram.std,
        air_share=float(histogram.bin_shares(np.array([AIR_MAX_HU]))[0]),
        **{f"hu_p{percent:02}": histogram.percentile(percent) for percent in _PERCENTILES},
    ), hu


def _add_mask_on_scan(
    inspection: Inspection, slices_hu: NDArray[np.int16], slices_mask: NDArray, lesions: Lesions, scan: Volume
) -> Inspection:
    """Add the facts that need scan and mask on one grid, and their picture."""
    anatomy = Anatomy.from_slices(slices_hu, scan.voxel_ml)
    has_whole_lungs = (inspection.facts.height_mm or 0) >= _MIN_LUNG_HEIGHT_MM
    index = largest_lesion_slice(slices_mask)
    column_mm, row_mm, _ = scan.spacing_mm
    picture = thumbnail_png(slices_hu[index], slices_mask[index], (row_mm, column_mm))
    return replace(inspection, picture=picture).with_facts(
        empty_slices=anatomy.empty_slices,
        lung_ml=anatomy.lung_ml if has_whole_lungs else None,
        lesion_hu_mean=float(slices_hu[lesions.box][lesions.labels > 0].mean()) if lesions.count else None,
        lesion_outside_share=anatomy.share_outside(slices_mask),
    )


def _format_labels(values: NDArray[np.float64]) -> str:
    text = " ".join(repr(float(value)).removesuffix(".0") for value in values[:_MAX_LABELS])
    return text + (f" … ({len(values)} values)" if len(values) > _MAX_LABELS else "")


def _format_grid(grid: FileGrid) -> str:
    rows = " | ".join(" ".join(f"{value:.6g}" for value in row) for row in grid.affine[:3])
    return f"{'×'.join(map(str, grid.shape[:3]))} {grid.orientation} affine [{rows}]"
