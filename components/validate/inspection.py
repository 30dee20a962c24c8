"""One reading of a case: its facts, and what else the page and the profile need of its voxels."""

from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from components.ct.cases import Case
from components.ct.grid import axial_slices
from components.ct.intensity import Intensity, classify_range, to_hu, value_range
from components.ct.lesions import Lesions
from components.ct.masks import is_binary, unique_labels
from components.ct.volume import FileGrid, Volume, read_volume
from components.report.slice_image import largest_slice, thumbnail_png
from components.runtime.errors import VolumeError
from components.validate.anatomy import AIR_BELOW_HU, Anatomy
from components.validate.facts import CaseFacts
from components.validate.histogram import HuHistogram
from components.validate.profile import HU_EDGES
from components.validate.resize_audit import ResizeAudit, audit_resize

_SAME_GRID_WITHIN = 0.1  # of the smallest voxel edge: more than what headers lose by rounding to float32
_LABELS_SHOWN = 8
_VOXELS_COUNTED = 1 << 22  # at most, for percentiles: a larger volume's rows are thinned
_LEAST_LUNG_HEIGHT_MM = 150  # a scan that is lower does not show a lung whole


@dataclass(frozen=True)
class Inspection:
    """What one case showed; `None` for what could not be had.

    Attributes:
        facts: its row of the fact table.
        hu_shares: share of its voxels in each bin of `components.validate.profile.HU_EDGES`.
        resize: what the network's grid costs.
        picture: PNG of a slice with the mask outlined; of the scan alone where the mask does not lie on it.
    """

    facts: CaseFacts
    hu_shares: NDArray[np.float64] | None = None
    resize: ResizeAudit | None = None
    picture: bytes | None = None


def inspect_case(folder: Path, case: Case, image_size: int) -> Inspection:
    """Read a case's scan and mask once; what cannot be read ends in the fact `read_error`."""
    found = Inspection(CaseFacts(case.case_id, case.patient_id, case.site))
    try:
        scan = read_volume(case.verified_scan(folder))
        found, hu = _with_scan(found, scan)
        mask = read_volume(case.verified_mask(folder))
    except VolumeError as error:
        return replace(found, facts=replace(found.facts, read_error=str(error)))
    difference = grid_difference(scan.file_grid, mask.file_grid)
    values = unique_labels(mask.voxels)
    facts = replace(found.facts, mask_labels=_labels(values), grid_difference=difference)
    if not is_binary(values):
        return replace(found, facts=replace(facts, unexpected_labels=_labels(values)))
    slices_mask = axial_slices(mask.voxels)
    lesions = Lesions.from_mask(slices_mask)
    found = replace(
        found,
        facts=_with_lesions(facts, mask, lesions),
        resize=audit_resize(case.case_id, slices_mask, lesions, image_size),
    )
    if hu is None or difference is not None:
        return found
    return _with_both(found, axial_slices(hu), slices_mask, lesions, scan)


def grid_difference(scan: FileGrid, mask: FileGrid) -> str | None:
    """How the mask's grid differs from the scan's, both shown; None where they are the same."""
    if scan.shape == mask.shape:
        corners = np.array(np.meshgrid(*((0, n - 1) for n in scan.shape), [1])).reshape(4, -1)
        parted_mm = np.abs(((scan.affine - mask.affine) @ corners)[:3]).max()
        edge_mm = np.linalg.norm(scan.affine[:3, :3], axis=0).min()
        if parted_mm <= _SAME_GRID_WITHIN * edge_mm:
            return None
    return f"scan {_shown(scan)}, mask {_shown(mask)}"


def _with_scan(found: Inspection, scan: Volume) -> tuple[Inspection, NDArray[np.int16] | None]:
    """Add what the scan alone tells; and give its voxels in HU, if they can be had."""
    columns, rows, slices = scan.voxels.shape
    column_mm, row_mm, slice_mm = scan.spacing_mm
    low, high = value_range(scan.voxels)
    intensity = classify_range(low, high)
    facts = replace(
        found.facts,
        orientation=scan.file_grid.orientation,
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
        stored_range=f"{low:g} to {high:g}",
    )
    if intensity is Intensity.UNKNOWN:
        return replace(found, facts=facts), None
    hu = to_hu(scan.voxels, intensity)
    histogram = HuHistogram.of(hu, every=-(-hu.size // _VOXELS_COUNTED))
    lowest, highest = to_hu(np.array([low, high]), intensity)  # brighter stays brighter
    facts = replace(_with_hu(facts, histogram), hu_min=float(lowest), hu_max=float(highest))
    middle = axial_slices(hu)[slices // 2]
    alone = thumbnail_png(middle, np.zeros_like(middle), (row_mm, column_mm))
    return replace(found, facts=facts, hu_shares=histogram.shares(HU_EDGES), picture=alone), hu


def _with_hu(facts: CaseFacts, histogram: HuHistogram) -> CaseFacts:
    return replace(
        facts,
        hu_p01=histogram.percentile(1),
        hu_p25=histogram.percentile(25),
        hu_p50=histogram.percentile(50),
        hu_p75=histogram.percentile(75),
        hu_p99=histogram.percentile(99),
        hu_mean=histogram.mean,
        hu_sd=histogram.deviation,
        air_share=histogram.share_below(AIR_BELOW_HU),
    )


def _with_lesions(facts: CaseFacts, mask: Volume, lesions: Lesions) -> CaseFacts:
    return replace(
        facts,
        lesion_count=lesions.count,
        lesion_voxels=lesions.voxels,
        lesion_slices=int(lesions.labels.any(axis=(1, 2)).sum()),
        lesion_share=lesions.voxels / mask.voxels.size,
        lesion_ml=lesions.voxels * mask.voxel_ml,
        largest_lesion_ml=lesions.largest * mask.voxel_ml,
    )


def _with_both(
    found: Inspection, slices_hu: NDArray[np.int16], slices_mask: NDArray, lesions: Lesions, scan: Volume
) -> Inspection:
    """Add what scan and mask tell together; they lie on the same grid."""
    anatomy = Anatomy.of(slices_hu, scan.voxel_ml)
    is_whole = (found.facts.height_mm or 0) >= _LEAST_LUNG_HEIGHT_MM
    facts = replace(
        found.facts,
        empty_slices=anatomy.empty_slices,
        lung_ml=anatomy.lung_ml if is_whole else None,
        lesion_hu_mean=float(slices_hu[lesions.box][lesions.labels > 0].mean()) if lesions.count else None,
        lesion_outside_share=anatomy.share_outside(slices_mask),
    )
    shown = largest_slice(slices_mask)
    column_mm, row_mm, _ = scan.spacing_mm
    return replace(found, facts=facts, picture=thumbnail_png(slices_hu[shown], slices_mask[shown], (row_mm, column_mm)))


def _labels(values: NDArray[np.float64]) -> str:
    shown = " ".join(f"{value:g}" for value in values[:_LABELS_SHOWN])
    return shown + (f" … ({len(values)} values)" if len(values) > _LABELS_SHOWN else "")


def _shown(grid: FileGrid) -> str:
    rows = " | ".join(" ".join(f"{value:.6g}" for value in row) for row in grid.affine[:3])
    return f"{'×'.join(map(str, grid.shape))} {grid.orientation} affine [{rows}]"
