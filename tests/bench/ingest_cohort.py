"""A synthetic cohort of 512×512×200 voxels per scan, with the noise and compression ratio of a real CT."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np

from components.ct.cases import Case, write_cases
from components.runtime.files import sha256_of

SHAPE = (512, 512, 200)
_DISTINCT = 4  # further cases are hard links to these


def write_cohort(folder: Path, cases: int) -> list[Case]:
    """Write scans and masks with nibabel's defaults, and the case table."""
    table = []
    for index in range(cases):
        names = f"scans/case_{index}.nii.gz", f"masks/case_{index}.nii.gz"
        originals = f"scans/case_{index % _DISTINCT}.nii.gz", f"masks/case_{index % _DISTINCT}.nii.gz"
        if index < _DISTINCT:
            for name, voxels in zip(names, _chest(index), strict=True):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                nib.save(nib.Nifti1Image(voxels, np.diag([-0.7, 0.7, 1.5, 1.0])), folder / name)
        else:
            for name, original in zip(names, originals, strict=True):
                os.link(folder / original, folder / name)
        digests = [sha256_of(folder / name) for name in names]
        table.append(Case(f"case_{index}", f"patient_{index}", "bench", *names, "hu", *digests))
    write_cases(folder, table)
    return table


def _chest(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a body with two lungs and a lesion in one, and its mask."""
    draw = np.random.default_rng(seed)
    x, y = np.ogrid[-1 : 1 : 1j * SHAPE[0], -1 : 1 : 1j * SHAPE[1]]
    scan, mask = np.empty(SHAPE, np.int16, order="F"), np.zeros(SHAPE, np.uint8, order="F")
    for index in range(SHAPE[2]):
        height = np.sin(np.pi * (index + 1) / (SHAPE[2] + 1))
        lung = ((np.abs(x) - 0.42) / (0.3 * height)) ** 2 + (y / (0.45 * height)) ** 2 < 1
        lesion = lung & ((x - 0.4) ** 2 + (y + 0.1) ** 2 < (0.15 * height) ** 2) & (60 < index < 160)
        hu = np.select([lesion, lung, (x / 0.9) ** 2 + (y / 0.65) ** 2 < 1], [-300, -850, 40], -1000)
        scan[:, :, index] = np.maximum(hu + 25 * draw.standard_normal(SHAPE[:2], np.float32), -1024)
        mask[:, :, index] = lesion
    return scan, mask
