"""The cohort on disk: acquisition parameters, scanner artifacts and file formats."""

from pathlib import Path

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from components.ct.grid import volume_from_axial_slices
from components.ct.intensity import FLOOR_HU, apply_window
from components.ct.phantom.body import Body, add_bones, draw_soft_tissue
from components.ct.phantom.lesions import add_lesions
from components.ct.phantom.lungs import Lungs, add_main_airways, add_trees, draw_lungs, draw_parenchyma
from components.ct.phantom.scan import Scan, Slices
from components.ct.volume import FileGrid, write_on_file_grid
from components.runtime.errors import InputError
from components.runtime.files import atomic_write

# Settings cycle over the cases.
SLICE_SPACING_MM = (1.5, 3.0, 6.0, 1.0, 5.0, 2.0, 4.0)
ORIENTATIONS = ("LAS", "LPS", "LAS", "LAS", "LAS", "RAS", "LAS", "LAS", "LAS", "PSR", "LAS")
LESION_SHARE_OF_LUNG = (0.08, 0.20, 0.05, 0.12, 0.06, 0.45, 0.05, 0.15)
FEW_VOXELS_CASE = 4  # has hardly any lesion, as radiopaedia_29_86490_1
SAME_PATIENT_CASES = (2, 3)  # 6 mm raw and 1 mm windowed slices


def write_cohort(folder: Path, cases: int, seed: int) -> None:
    """Write `scans/phantom_001.nii.gz` …, `infection_masks/` with the same names, and `patients.csv`.

    Scans are int16 HU or uint8 windowed, masks uint8 0/1. From 4 cases on, one patient has two scans; from 5 on, one
    case has a lesion of a few voxels.

    Raises:
        InputError: `cases` < 1, `seed` < 0, or `folder` holds scans of another cohort.
    """
    if cases < 1 or seed < 0:
        raise InputError(f"phantom: cases={cases}, seed={seed}; expected at least 1 case and a seed of at least 0")
    names = [f"phantom_{index + 1:03d}" for index in range(cases)]
    for part in ("scans", "infection_masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
        file_names = {path.name for path in (folder / part).iterdir() if not path.name.startswith(".")}
        if other_names := file_names - {f"{name}.nii.gz" for name in names}:
            raise InputError(f"{folder / part}: holds {min(other_names)}; expected an empty folder")
    for index, name in enumerate(names):
        scan, stored, mask = _draw_case(index, seed)
        _write(folder / "scans" / f"{name}.nii.gz", stored, scan)
        _write(folder / "infection_masks" / f"{name}.nii.gz", mask, scan)
    rows = [f"{name},patient_{_patient_index(index) + 1:03d}\n" for index, name in enumerate(names)]
    with atomic_write(folder / "patients.csv") as temporary:
        temporary.write_text("case_id,patient_id\n" + "".join(rows))


def count_patients(cases: int) -> int:
    """Count the patients of a cohort of one or more scans."""
    return _patient_index(cases - 1) + 1


def _patient_index(case: int) -> int:
    return case if case < SAME_PATIENT_CASES[1] else case - 1


def _write(path: Path, slices: NDArray, scan: Scan) -> None:
    """Write (z, rows, columns) slices in the orientation of the scan."""
    voxels = volume_from_axial_slices(slices)
    dz, dy, dx = scan.spacing_mm
    affine = np.diag([dx, dy, dz, 1.0])
    affine[:3, 3] = -scan.x.max(), -scan.y.max(), scan.z.min()
    to_file = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(scan.orientation))
    shape = apply_orientation(voxels, to_file).shape
    write_on_file_grid(path, voxels, FileGrid(shape, affine @ inv_ornt_aff(to_file, voxels.shape)))


def _draw_case(index: int, seed: int) -> tuple[Scan, NDArray, NDArray[np.uint8]]:
    """Return the voxel grid of a case, its stored values, and its mask, as (z, rows, columns)."""
    body = Body.draw(seed, _patient_index(index))
    rng = default_rng([seed, index, 1])
    scan = _draw_scan(rng, index, body)
    hu = draw_soft_tissue(scan, body)
    add_bones(hu, scan, body)
    lungs = draw_lungs(scan, body)
    parenchyma = draw_parenchyma(scan, body, lungs, rng)
    share_of_lung = None if index == FEW_VOXELS_CASE else LESION_SHARE_OF_LUNG[index % len(LESION_SHARE_OF_LUNG)]
    mask = add_lesions(parenchyma, scan, lungs, share_of_lung, rng)
    add_trees(parenchyma, scan, body)
    hu += scan.inside(lungs.border) * (parenchyma - hu)
    add_main_airways(hu, scan, body)
    _blur_by_motion(hu, lungs, rng)
    return scan, _acquire(hu, scan, rng), mask


def _draw_scan(rng: Generator, index: int, body: Body) -> Scan:
    """Draw matrix, field of view and slab; pixels scale to 0.6 to 0.9 mm on a 512 matrix."""
    columns = int(rng.choice([128, 144, 160, 176, 192]))
    oblong = index % 6 == 3  # the data set has one 630×401 volume
    rows = round(columns * 0.66) if oblong else columns
    field_mm = np.clip(2 * body.half_width * rng.uniform(1.08 if oblong else 1.0, 1.18), 310, 460)
    pixel_mm = round(float(field_mm) / columns, 4)
    dz_mm = SLICE_SPACING_MM[index % len(SLICE_SPACING_MM)]
    slices = int(rng.integers(28, 41)) if dz_mm < 3 else int(rng.integers(18, 37))
    half_slab = slices * dz_mm / 2
    middle = rng.uniform(0.3, 0.62) * body.lung_height
    middle = np.clip(middle, half_slab - 30, max(half_slab - 30, body.lung_height + 25 - half_slab))

    def axis(count: int, step_mm: float, center_mm: float) -> Slices:
        return (center_mm + (np.arange(count, dtype=np.float32) - (count - 1) / 2) * step_mm).astype(np.float32)

    return Scan(
        z=axis(slices, dz_mm, middle)[:, None, None],
        y=axis(rows, pixel_mm, rng.uniform(-6, 12))[None, :, None],
        x=axis(columns, pixel_mm, rng.uniform(-6, 6))[None, None, :],
        spacing_mm=(dz_mm, pixel_mm, pixel_mm),
        orientation=ORIENTATIONS[index % len(ORIENTATIONS)],
        windowed=index % 2 == 1,
    )


def _blur_by_motion(hu: Slices, lungs: Lungs, rng: Generator) -> None:
    """Add motion of heart and diaphragm in place: a double contour that fades upward."""
    pixels = int(rng.choice([0, 1, 2]))
    ghost = (np.roll(hu, pixels, 1) + np.roll(hu, -pixels, 1)) / 2
    hu += 0.6 * np.exp(-np.abs(lungs.above_diaphragm) / 25) * (ghost - hu)


def _acquire(hu: Slices, scan: Scan, rng: Generator) -> NDArray:
    """Blur, add noise with the correlation of a reconstruction, and store int16 HU or 8-bit windowed values."""
    sigma = rng.uniform(0.45, 0.75)
    hu = gaussian_filter(hu, (0.4, sigma, sigma), truncate=3)
    grain = gaussian_filter(rng.standard_normal(scan.shape, np.float32), (0, 0.6, 0.6), truncate=3)
    hu += rng.uniform(10, 45) / grain.std() * grain
    if rng.random() < 0.5:  # padding outside the circular field of view
        hu[:, (scan.y**2 + scan.x**2)[0] > (scan.x.max() - scan.x.min()) ** 2 / 4] = FLOOR_HU
    if not scan.windowed:
        return np.rint(np.clip(hu, FLOOR_HU, 3071)).astype(np.int16)
    return np.rint(apply_window(hu) * 255).astype(np.uint8)
