"""Fixtures shared by several packages: small cohorts in the format of the ingest step."""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from components.ct.cases import Case, write_cases
from components.ct.volume import FileGrid, write_on_file_grid
from components.runtime.files import sha256_of

# kubectl and hadolint from the lock file precede the machine's.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


@pytest.fixture(autouse=True)
def package_logs() -> None:
    """Log from INFO on to `caplog`, even after a test has run a step in this process."""
    loggers = [logging.getLogger(name) for name in ("components", "pipelines", "serving")]
    for logger in loggers:
        logger.handlers[:], logger.propagate = [], True
        logger.setLevel(logging.INFO)


@pytest.fixture
def write_case() -> Callable[..., Case]:
    """A function that writes a scan in HU and its mask to a folder, and returns their `Case`."""

    def write(
        folder: Path,
        case_id: str,
        scan_hu: np.ndarray,
        mask: np.ndarray,
        patient_id: str | None = None,
        affine: np.ndarray | None = None,
    ) -> Case:
        affine = np.diag([-1.0, 1.0, 2.0, 1.0]) if affine is None else affine
        shape = nib.apply_orientation(
            scan_hu, nib.orientations.ornt_transform([[0, 1], [1, 1], [2, 1]], nib.io_orientation(affine))
        ).shape
        names = f"scans/{case_id}.nii.gz", f"masks/{case_id}.nii.gz"
        for name, voxels in zip(names, (scan_hu.astype(np.int16), mask.astype(np.uint8)), strict=True):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_on_file_grid(folder / name, voxels, FileGrid(shape, affine))
        digests = (sha256_of(folder / name) for name in names)
        return Case(case_id, patient_id or case_id, "test", *names, "hu", *digests)

    return write


@pytest.fixture
def small_cohort(tmp_path, write_case) -> Path:
    """Six cases of 40×36×5 voxels, each with a bright square lesion."""
    folder = tmp_path / "cases"
    draw = np.random.default_rng(0)
    cases = []
    for index in range(6):
        scan = draw.normal(-700, 60, (40, 36, 5))
        mask = np.zeros(scan.shape, np.uint8)
        mask[8 : 14 + 2 * index, 10:20, 1:4] = 1
        scan[mask > 0] += 600
        cases.append(write_case(folder, f"case_{index}", scan, mask))
    write_cases(folder, cases)
    return folder
