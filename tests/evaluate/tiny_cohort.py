"""A cohort of tiny scans, and networks whose predictions can be computed by hand."""

from dataclasses import dataclass
from pathlib import Path

import keras
import nibabel as nib
import numpy as np

from components.ct.cases import Case, write_cases
from components.runtime.files import sha256_of
from components.slice.split import Split

AIR_HU, WALL_HU, LUNG_HU, LESION_HU = -1000, -150, -850, 100
SIZE = 32


@dataclass(frozen=True)
class Cohort:
    """Folders as ingest, slice and train write them."""

    cases: Path
    shards: Path
    model: Path


def write_case(folder: Path, name: str, shape: tuple[int, int, int], lesion: tuple[slice, ...] | None) -> Case:
    """Write a chest wall around a block of lung with a block of lesion, LAS with 2 × 2 × 2.5 mm voxels."""
    scan = np.full(shape, AIR_HU, np.int16)
    scan[2:-2, 2:-2] = WALL_HU
    scan[4:-4, 4:-4] = LUNG_HU
    mask = np.zeros(shape, np.uint8)
    if lesion is not None:
        scan[lesion], mask[lesion] = LESION_HU, 1
    affine = np.diag([-2.0, 2.0, 2.5, 1.0])
    for part, voxels in (("scans", scan), ("masks", mask)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(voxels, affine), folder / part / f"{name}.nii.gz")
    scan_path, mask_path = f"scans/{name}.nii.gz", f"masks/{name}.nii.gz"
    digests = sha256_of(folder / scan_path), sha256_of(folder / mask_path)
    return Case(name, name, "synthetic", scan_path, mask_path, "hu", *digests)


def step_network(at_hu: float) -> keras.Model:
    """Build a network whose probability rises with HU and is 0.5 at `at_hu`."""
    return keras.Sequential(
        [
            keras.layers.Input((SIZE, SIZE)),
            keras.layers.Rescaling(scale=1 / 20, offset=-at_hu / 20),
            keras.layers.Activation("sigmoid"),
        ]
    )


def write_cohort(folder: Path) -> Cohort:
    """Write two validation and three test cases, one without lesion, and a network that segments all of them."""
    cases = folder / "cases"
    block = (slice(8, 20), slice(6, 18), slice(1, 4))
    rows = [
        write_case(cases, "train_1", (32, 24, 3), block),
        write_case(cases, "validation_1", (32, 24, 4), block),
        write_case(cases, "validation_2", (24, 32, 5), block),
        write_case(cases, "test_1", (32, 32, 35), (*block[:2], slice(3, 34))),
        write_case(cases, "test_2", (64, 48, 4), block),
        write_case(cases, "test_healthy", (32, 32, 2), None),
    ]
    write_cases(cases, rows)
    shards = folder / "shards"
    parts = {
        name: [row.case_id for row in rows if row.case_id.startswith(name)] for name in ("train", "validation", "test")
    }
    Split(parts, SIZE, 0).write(shards)
    model = folder / "model"
    model.mkdir()
    step_network(at_hu=-25).save(model / "model.keras")
    (model / "training.json").write_text(
        '{"history": {"loss": [0.9, 0.5], "val_loss": [1.0, 0.6], "dice": [0.1, 0.5], "val_dice": [0.1, 0.4]}}'
    )
    return Cohort(cases, shards, model)
