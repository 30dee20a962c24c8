"""A scan with its ground truth as axial slices, and the cases of each split."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.ct.cases import Case, read_cases
from components.ct.grid import axial_slices
from components.ct.intensity import read_ct
from components.ct.volume import read_volume
from components.runtime.errors import CohortError, VolumeError
from components.slice.split import SPLITS, Split, require_patients_apart


@dataclass(frozen=True)
class LabeledScan:
    """One case in memory, as axial slices."""

    case: Case
    slices_hu: NDArray[np.int16]  # (n, rows, columns)
    truth: NDArray[np.bool_]  # (n, rows, columns), the ground-truth lesion mask
    spacing_mm: tuple[float, float, float]  # along slices, rows and columns

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in milliliters."""
        return float(np.prod(self.spacing_mm)) / 1000

    @classmethod
    def read(cls, folder: Path, case: Case) -> "LabeledScan":
        """Read a case of an ingested cohort.

        Raises:
            VolumeError: a file differs from the case table, or scan and mask differ in shape.
        """
        with ThreadPoolExecutor(1) as pool:
            mask_future = pool.submit(lambda: read_volume(case.verified_mask(folder)))
            scan, _ = read_ct(case.verified_scan(folder))
        mask = mask_future.result()
        if mask.voxels.shape != scan.voxels.shape:
            raise VolumeError(
                f"case {case.case_id}: the scan has shape {scan.voxels.shape}, the mask {mask.voxels.shape}; "
                "draw the mask on the scan's own grid"
            )
        x, y, z = scan.spacing_mm
        return cls(case, axial_slices(scan.voxels), axial_slices(mask.voxels) != 0, (z, y, x))


@dataclass(frozen=True)
class SplitCases:
    """The cases of each split."""

    train: list[Case]  # the network was fitted to these
    validation: list[Case]  # the checkpoint and the threshold are chosen on these
    test: list[Case]  # the model is judged on these
    image_size: int  # edge of the network's grid

    @classmethod
    def read(cls, cases_folder: Path, shards: Path) -> "SplitCases":
        """Look up the cases of a split in the case table.

        Raises:
            CohortError: a case of the split is missing from the table, or a patient is in two splits.
        """
        split = Split.read(shards)
        cases = {case.case_id: case for case in read_cases(cases_folder)}
        unknown = sorted({case_id for part in split.cases.values() for case_id in part} - set(cases))
        if unknown:
            raise CohortError(
                f"{shards}: the split names {', '.join(unknown)}, missing from the case table of {cases_folder}; "
                "use the cases that the shards were made from"
            )
        require_patients_apart(cases.values(), split.cases)
        train, validation, test = ([cases[case_id] for case_id in split.cases[name]] for name in SPLITS)
        return cls(train, validation, test, split.image_size)
