"""Conversion of a cohort of 3-D cases to shards of 2-D slices on the network's grid."""

from functools import partial
from pathlib import Path

import numpy as np

from components.ct.cases import Case, read_cases
from components.ct.grid import axial_slices, fit_hu, fit_mask
from components.ct.image_size import check_image_size
from components.ct.intensity import read_ct
from components.ct.volume import read_volume
from components.runtime.errors import CohortError
from components.runtime.files import atomic_folder
from components.runtime.seed import check_seed
from components.runtime.workers import map_cases
from components.slice.shards import write_shard
from components.slice.split import SPLITS, Split, require_patients_apart, split_by_patient


def slice_cohort(
    cases_folder: Path,
    accepted: Path,
    output: Path,
    *,
    image_size: int = 128,
    min_lesion_pixels: int = 0,
    seed: int = 0,
    workers: int | None = None,
) -> Split:
    """Write the axial slices of each accepted case as a shard, and assign the shards to splits.

    Each worker holds one volume in memory.

    Args:
        cases_folder: output of ingest.
        accepted: folder of the case table accepted by validate.
        output: folder, written atomically.
        image_size: edge of the network's grid, a multiple of 16.
        min_lesion_pixels: minimum number of lesion pixels in a slice; 0 keeps every slice.
        seed: of the split.
        workers: number of cases processed in parallel, by default the number of processors.

    Raises:
        InputError: invalid parameter, file changed since ingest, no accepted case, fewer than three patients, or
            no slice with enough lesion.
    """
    check_image_size(image_size)
    check_seed(seed)
    cases = read_cases(accepted)
    if not cases:
        raise CohortError(f"{accepted}: validate accepted no case; see its report")
    with atomic_folder(output) as temporary:
        for name in SPLITS:
            (temporary / name).mkdir()
        slice_one = partial(
            _slice_case, folder=cases_folder, output=temporary, size=image_size, min_lesion_pixels=min_lesion_pixels
        )
        counts, burdens = zip(*map_cases(slice_one, cases, "sliced", workers), strict=True)
        if not any(counts):
            raise CohortError(
                f"no slice of {len(cases)} cases has {min_lesion_pixels} lesion pixels or more; "
                "lower min_lesion_pixels, or check the masks"
            )
        parts = split_by_patient(
            cases, {case.case_id: burden for case, burden in zip(cases, burdens, strict=True)}, seed
        )
        require_patients_apart(cases, parts)
        for name, case_ids in parts.items():
            for shard in filter(Path.exists, (_shard(temporary, case_id) for case_id in case_ids)):
                shard.rename(temporary / name / shard.name)
        split = Split(parts, image_size, seed)
        split.write(temporary)
    return split


def _slice_case(case: Case, *, folder: Path, output: Path, size: int, min_lesion_pixels: int) -> tuple[int, float]:
    """Write the slices of a case; return their number, and the lesion's share of the voxels."""
    scan, _ = read_ct(case.verified_scan(folder))
    mask = read_volume(case.verified_mask(folder))
    slices_mask = axial_slices(mask.voxels)
    lesion_pixels = np.array([np.count_nonzero(pixels) for pixels in slices_mask])
    indices = np.flatnonzero(lesion_pixels >= min_lesion_pixels)
    if len(indices):
        selection = slice(None) if len(indices) == len(slices_mask) else indices  # a slice object avoids a copy
        hu = fit_hu(axial_slices(scan.voxels)[selection], size)
        write_shard(_shard(output, case.case_id), case.case_id, indices, hu, fit_mask(slices_mask[selection], size))
    return len(indices), float(lesion_pixels.sum() / slices_mask.size)


def _shard(folder: Path, case_id: str) -> Path:
    return folder / f"{case_id}.tfrecord"
