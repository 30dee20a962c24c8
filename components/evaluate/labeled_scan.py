"""A scan with the radiologist's mask, as axial slices; and the cases that a model never saw."""

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
    """One case in memory.

    Attributes:
        case: its row of the case table.
        slices_hu: (n, rows, columns) int16 axial slices.
        truth: (n, rows, columns) bool, the radiologist's lesion mask.
        spacing_mm: size of a voxel along slices, rows and columns.
    """

    case: Case
    slices_hu: NDArray[np.int16]
    truth: NDArray[np.bool_]
    spacing_mm: tuple[float, float, float]

    @property
    def voxel_ml(self) -> float:
        """The volume of one voxel in milliliters."""
        return float(np.prod(self.spacing_mm)) / 1000

    @classmethod
    def read(cls, folder: Path, case: Case) -> "LabeledScan":
        """Read a case of an ingested cohort; `VolumeError` unless both files are as they were recorded."""
        with ThreadPoolExecutor(1) as aside:
            mask_read = aside.submit(lambda: read_volume(case.verified_mask(folder)))
            scan, _ = read_ct(case.verified_scan(folder))
        mask = mask_read.result()
        if mask.voxels.shape != scan.voxels.shape:
            raise VolumeError(
                f"case {case.case_id}: its scan has {scan.voxels.shape} voxels, its mask {mask.voxels.shape}; "
                "draw the mask on the scan's own grid"
            )
        x, y, z = scan.spacing_mm
        return cls(case, axial_slices(scan.voxels), axial_slices(mask.voxels) != 0, (z, y, x))


@dataclass(frozen=True)
class HeldOut:
    """The cases that the network was not fitted to, and for the record those that it was.

    Attributes:
        train: what the network was fitted to.
        validation: where the best epoch and the threshold are chosen.
        test: where the model is judged.
        image_size: edge of the network's grid.
    """

    train: list[Case]
    validation: list[Case]
    test: list[Case]
    image_size: int

    @classmethod
    def read(cls, cases_folder: Path, shards: Path) -> "HeldOut":
        """Look up the split's cases in the case table.

        Raises:
            CohortError: a case of the split is not in the table, or a patient is on both sides of the split.
        """
        split = Split.read(shards)
        known = {case.case_id: case for case in read_cases(cases_folder)}
        unknown = sorted({case_id for part in split.cases.values() for case_id in part} - set(known))
        if unknown:
            raise CohortError(
                f"{shards}: the split names {', '.join(unknown)}, which the case table of {cases_folder} does not "
                "hold; give the cases that the shards were made of"
            )
        require_patients_apart(known.values(), split.cases)
        train, validation, test = ([known[case_id] for case_id in split.cases[name]] for name in SPLITS)
        return cls(train, validation, test, split.image_size)
