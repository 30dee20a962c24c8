"""The synthetic cohort: its quirks, and that neither a threshold nor chance finds its lesions."""

import csv
import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import binary_fill_holes, distance_transform_edt

from components.ct.grid import axial_slices
from components.ct.phantom import write_cohort
from components.runtime.errors import InputError

CASES = 12
LEVELS_HU = np.arange(-1260, 620, 20)  # the grid of thresholds; a lesion spreads over hundreds of HU


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, cases=CASES, seed=0)
    return folder


@pytest.fixture(scope="module")
def pairs(cohort) -> list[tuple[nib.Nifti1Image, nib.Nifti1Image]]:
    names = [path.name for path in scans_of(cohort)]
    return [(nib.load(cohort / "scans" / name), nib.load(cohort / "infection_masks" / name)) for name in names]


def scans_of(folder: Path) -> list[Path]:
    return sorted((folder / "scans").iterdir())


def voxels(image: nib.Nifti1Image) -> np.ndarray:
    """Axial slices of the stored numbers; nibabel reads them, not the code under test."""
    return axial_slices(np.asarray(nib.as_closest_canonical(image).dataobj))


def hu(image: nib.Nifti1Image) -> np.ndarray:
    stored = voxels(image)
    return stored / 255 * 1500 - 1250 if stored.dtype == np.uint8 else stored.astype(float)


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*.gz"))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_seed_gives_the_same_bytes_and_a_cohort_begins_every_longer_one(cohort, tmp_path):
    write_cohort(tmp_path, cases=5, seed=0)
    longer, shorter = digests(cohort), digests(tmp_path)
    assert len(longer) == 2 * CASES
    assert len(shorter) == 2 * 5
    assert shorter.items() <= longer.items()
    patients = (tmp_path / "patients.csv").read_text()
    assert (cohort / "patients.csv").read_text().startswith(patients)


def test_another_seed_gives_other_scans(cohort, tmp_path):
    write_cohort(tmp_path, cases=2, seed=1)
    assert not set(digests(tmp_path).values()) & set(digests(cohort).values())


def test_masks_are_binary_not_empty_and_on_the_grid_of_their_scan(cohort, pairs):
    assert [path.name for path in scans_of(cohort)] == sorted(p.name for p in cohort.glob("infection_masks/*"))
    for scan, mask in pairs:
        assert mask.get_data_dtype() == np.uint8
        assert set(np.unique(mask.dataobj)) == {0, 1}
        assert mask.shape == scan.shape
        np.testing.assert_array_equal(mask.affine, scan.affine)


def test_half_of_the_scans_are_raw_hu_and_half_8_bit_windowed(pairs):
    raw = [voxels(scan) for scan, _ in pairs if scan.get_data_dtype() == np.int16]
    windowed = [voxels(scan) for scan, _ in pairs if scan.get_data_dtype() == np.uint8]
    assert len(raw) == len(windowed) == CASES / 2
    assert all(stored.min() >= -1024 and stored.max() > 300 for stored in raw)
    assert any((stored == -1024).mean() > 0.1 for stored in raw)  # padded outside the field of view
    assert all(stored.max() == 255 for stored in windowed)  # bone lies above the window
    assert all(abs(np.median(stored[:, :4]) - 42) < 8 for stored in windowed)  # air: (-1000 + 1250) / 1500 · 255


def test_most_scans_are_las_and_some_are_not(pairs):
    orientations = ["".join(nib.aff2axcodes(scan.affine)) for scan, _ in pairs]
    assert orientations.count("LAS") >= CASES / 2
    assert len(set(orientations)) >= 3
    assert any(codes[2] != "S" for codes in orientations)  # slices along another axis of the file


def test_matrices_and_spacings_differ_as_scanners_do(pairs):
    canonical = [nib.as_closest_canonical(scan) for scan, _ in pairs]
    shapes = [image.shape for image in canonical]
    spacings = np.array([image.header.get_zooms() for image in canonical])
    on_512 = spacings[:, 0] * [columns / 512 for columns, _, _ in shapes]
    assert on_512.min() >= 0.6
    assert on_512.max() <= 0.9
    assert (spacings[:, 2].min(), spacings[:, 2].max()) == (1, 6)
    assert all(128 <= columns <= 192 and 16 <= slices <= 40 for columns, _, slices in shapes)
    assert any(rows != columns for columns, rows, _ in shapes)
    assert len({columns for columns, _, _ in shapes}) >= 3


def test_two_scans_are_of_one_patient_and_show_the_same_anatomy(cohort, pairs):
    with (cohort / "patients.csv").open() as table:
        patient_of = {row["case_id"]: row["patient_id"] for row in csv.DictReader(table)}
    assert list(patient_of) == [path.name.removesuffix(".nii.gz") for path in scans_of(cohort)]
    assert len(set(patient_of.values())) == CASES - 1
    assert patient_of["phantom_003"] == patient_of["phantom_004"]
    # At the same place in the patient, bone is bone in both scans and not in another patient's.
    first, second, other = (nib.as_closest_canonical(pairs[index][0]) for index in (2, 3, 5))
    assert share_of_bone_in_common(second, first) > 2 * share_of_bone_in_common(second, other)


def share_of_bone_in_common(one: nib.Nifti1Image, two: nib.Nifti1Image) -> float:
    """Share of the bright voxels of `one` that are bright where `two` shows the same point in mm."""
    bright = [np.asarray(image.dataobj) > (230 if image.get_data_dtype() == np.uint8 else 100) for image in (one, two)]
    to_two = np.linalg.inv(two.affine) @ one.affine
    there = np.rint(nib.affines.apply_affine(to_two, np.argwhere(bright[0]))).astype(int)
    there = there[np.all((there >= 0) & (there < two.shape), axis=1)]
    return float(bright[1][tuple(there.T)].mean())


def test_lesions_range_from_a_few_voxels_to_half_of_the_lungs(pairs):
    counts = [int(np.sum(mask.dataobj)) for _, mask in pairs]
    assert sorted(counts)[0] == counts[4]
    assert 30 <= counts[4] <= 150
    assert sorted(counts)[1] > 1000
    share = np.sort([count / np.prod(scan.shape) for count, (scan, _) in zip(counts, pairs, strict=True)])
    assert share[-1] > 0.03
    assert np.median(share) < 0.02


def test_lesions_lie_at_aerated_lung_and_more_peripherally_than_lung_does(pairs):
    ratios = []
    for scan, mask in pairs:
        pixel_mm = nib.as_closest_canonical(scan).header.get_zooms()[0]
        apart_mm, of_lesion, of_lung = [], [], []
        for image, drawn in zip(hu(scan), voxels(mask) > 0, strict=True):
            body = binary_fill_holes(image > -400)
            aerated = body & (image < -500)
            if drawn.any() and aerated.any():
                apart_mm.append(distance_transform_edt(~aerated)[drawn] * pixel_mm)
                below_skin = distance_transform_edt(body)
                of_lesion.append(below_skin[drawn])
                of_lung.append(below_skin[aerated])
        # Never far from air, as the heart's middle is: not even in lungs that are half consolidated.
        assert np.mean(np.concatenate(apart_mm) < 20) > 0.8
        ratios.append(np.concatenate(of_lesion).mean() / np.concatenate(of_lung).mean())
    assert np.median(ratios) < 0.95


def test_no_threshold_and_no_window_of_hu_finds_the_lesions(pairs):
    """Measured for this cohort: v > t reaches 0.10 at best (mean of cases, and pooled); a window 0.36 and 0.41."""
    edges = np.append(LEVELS_HU, 10000)
    lesion = np.array([np.histogram(hu(scan)[voxels(mask) > 0], edges)[0] for scan, mask in pairs])
    whole = np.array([np.histogram(hu(scan), edges)[0] for scan, mask in pairs])
    hits, chosen = (between_two_levels(counts) for counts in (lesion, whole))
    drawn = lesion.sum(axis=1)[:, None, None]
    per_case = (2 * hits / (chosen + drawn)).mean(axis=0)
    pooled = 2 * hits.sum(axis=0) / (chosen.sum(axis=0) + drawn.sum())
    assert max(per_case[:, -1].max(), pooled[:, -1].max()) < 0.2  # every v > t
    assert max(per_case.max(), pooled.max()) < 0.5  # every a < v < b


def between_two_levels(counts: np.ndarray) -> np.ndarray:
    """(cases, bins) counts to (cases, low, high) counts from each level up to each other."""
    below = np.pad(counts.cumsum(axis=1), ((0, 0), (1, 0)))
    return np.maximum(below[:, None, :] - below[:, :, None], 0)


def test_lesions_hold_ground_glass_and_consolidation(pairs):
    values = np.concatenate([hu(scan)[voxels(mask) > 0] for scan, mask in pairs])
    assert ((values > -650) & (values < -250)).mean() > 0.4
    assert ((values > -150) & (values < 100)).mean() > 0.05


@pytest.mark.parametrize(("cases", "seed"), [(0, 0), (-1, 0), (1, -1)])
def test_a_cohort_without_cases_or_with_a_negative_seed_is_refused(tmp_path, cases, seed):
    with pytest.raises(InputError, match=f"cases={cases}, seed={seed}"):
        write_cohort(tmp_path, cases, seed)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_other_scans_is_refused(tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "phantom_002.nii.gz").touch()
    with pytest.raises(InputError, match=r"phantom_002\.nii\.gz"):
        write_cohort(tmp_path, cases=1, seed=0)
