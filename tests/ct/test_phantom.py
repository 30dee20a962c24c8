"""The synthetic cohort: its quirks, and lesions that no threshold segments."""

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import binary_fill_holes, distance_transform_edt

from components.ct.grid import axial_slices
from components.ct.phantom import write_cohort
from components.runtime.errors import InputError
from components.runtime.files import sha256_of

CASES = 12
LEVELS_HU = np.arange(-1260, 620, 20)  # thresholds; a lesion spreads over hundreds of HU


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, cases=CASES, seed=0)
    return folder


def names_of(cohort: Path) -> list[str]:
    return sorted(path.name for path in (cohort / "scans").iterdir())


@pytest.fixture(scope="module")
def pairs(cohort) -> list[tuple[nib.Nifti1Image, nib.Nifti1Image]]:
    names = names_of(cohort)
    return [(nib.load(cohort / "scans" / name), nib.load(cohort / "infection_masks" / name)) for name in names]


def voxels(image: nib.Nifti1Image) -> np.ndarray:
    """Read axial slices of the stored values, with nibabel instead of the code under test."""
    return axial_slices(np.asarray(nib.as_closest_canonical(image).dataobj))


def hu(image: nib.Nifti1Image) -> np.ndarray:
    stored = voxels(image)
    return stored / 255 * 1500 - 1250 if stored.dtype == np.uint8 else stored.astype(float)


def digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_of(path) for path in folder.rglob("*.gz")}


def test_the_same_seed_gives_the_same_bytes_and_longer_cohorts_extend_shorter_ones(cohort, tmp_path):
    write_cohort(tmp_path, cases=5, seed=0)
    longer, shorter = digests(cohort), digests(tmp_path)
    assert len(longer) == 2 * CASES
    assert len(shorter) == 2 * 5
    assert shorter.items() <= longer.items()
    assert (cohort / "patients.csv").read_text().startswith((tmp_path / "patients.csv").read_text())


def test_another_seed_gives_other_scans(cohort, tmp_path):
    write_cohort(tmp_path, cases=2, seed=1)
    assert not set(digests(tmp_path).values()) & set(digests(cohort).values())


def test_masks_are_binary_and_on_the_grid_of_their_scan(cohort, pairs):
    assert names_of(cohort) == sorted(p.name for p in cohort.glob("infection_masks/*"))
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
    assert all(stored.max() == 255 for stored in windowed)  # bone is above the window
    assert all(abs(np.median(stored[:, :4]) - 42) < 8 for stored in windowed)  # air: (-1000 + 1250) / 1500 · 255


def test_most_scans_are_las_and_some_are_not(pairs):
    orientations = ["".join(nib.aff2axcodes(scan.affine)) for scan, _ in pairs]
    assert orientations.count("LAS") >= CASES / 2
    assert len(set(orientations)) >= 3
    assert any(codes[2] != "S" for codes in orientations)  # slices along another axis of the file


def test_matrices_and_spacings_vary_like_those_of_scanners(pairs):
    canonical = [nib.as_closest_canonical(scan) for scan, _ in pairs]
    shapes = [image.shape for image in canonical]
    spacings = np.array([image.header.get_zooms() for image in canonical])
    on_512_mm = spacings[:, 0] * [columns / 512 for columns, _, _ in shapes]
    assert on_512_mm.min() >= 0.6
    assert on_512_mm.max() <= 0.9
    assert (spacings[:, 2].min(), spacings[:, 2].max()) == (1, 6)
    assert all(128 <= columns <= 192 and 16 <= slices <= 40 for columns, _, slices in shapes)
    assert any(rows != columns for columns, rows, _ in shapes)
    assert len({columns for columns, _, _ in shapes}) >= 3


def test_two_scans_of_one_patient_show_the_same_anatomy(cohort, pairs):
    with (cohort / "patients.csv").open() as table:
        patient_of = {row["case_id"]: row["patient_id"] for row in csv.DictReader(table)}
    assert list(patient_of) == [name.removesuffix(".nii.gz") for name in names_of(cohort)]
    assert len(set(patient_of.values())) == CASES - 1
    assert patient_of["phantom_003"] == patient_of["phantom_004"]
    first, second, other = (nib.as_closest_canonical(pairs[index][0]) for index in (2, 3, 5))
    assert common_bone_share(second, first) > 2 * common_bone_share(second, other)


def common_bone_share(one: nib.Nifti1Image, two: nib.Nifti1Image) -> float:
    """Share of the bright voxels of `one` that are bright at the same point in mm in `two`."""
    bright = [np.asarray(image.dataobj) > (230 if image.get_data_dtype() == np.uint8 else 100) for image in (one, two)]
    to_two = np.linalg.inv(two.affine) @ one.affine
    indices = np.rint(nib.affines.apply_affine(to_two, np.argwhere(bright[0]))).astype(int)
    indices = indices[np.all((indices >= 0) & (indices < two.shape), axis=1)]
    return float(bright[1][tuple(indices.T)].mean())


def test_lesions_range_from_a_few_voxels_to_half_of_the_lungs(pairs):
    counts = [int(np.sum(mask.dataobj)) for _, mask in pairs]
    assert sorted(counts)[0] == counts[4]
    assert 30 <= counts[4] <= 150
    assert sorted(counts)[1] > 1000
    share = np.sort([count / np.prod(scan.shape) for count, (scan, _) in zip(counts, pairs, strict=True)])
    assert share[-1] > 0.03
    assert np.median(share) < 0.02


def test_lesions_are_near_aerated_lung_and_more_peripheral_than_lung(pairs):
    ratios = []
    for scan, mask in pairs:
        pixel_mm = nib.as_closest_canonical(scan).header.get_zooms()[0]
        distance_mm, lesion_depth, lung_depth = [], [], []
        for image, lesion in zip(hu(scan), voxels(mask) > 0, strict=True):
            body = binary_fill_holes(image > -400)
            aerated = body & (image < -500)
            if lesion.any() and aerated.any():
                distance_mm.append(distance_transform_edt(~aerated)[lesion] * pixel_mm)
                below_skin = distance_transform_edt(body)
                lesion_depth.append(below_skin[lesion])
                lung_depth.append(below_skin[aerated])
        # Unlike the center of the heart, even in half consolidated lungs.
        assert np.mean(np.concatenate(distance_mm) < 20) > 0.8
        ratios.append(np.concatenate(lesion_depth).mean() / np.concatenate(lung_depth).mean())
    assert np.median(ratios) < 0.95


def test_no_threshold_and_no_window_segments_the_lesions(pairs):
    """Measured Dice: at best 0.10 for a threshold (mean and pooled), 0.36 and 0.41 for a window."""
    edges = np.append(LEVELS_HU, 10000)
    lesion = np.array([np.histogram(hu(scan)[voxels(mask) > 0], edges)[0] for scan, mask in pairs])
    whole = np.array([np.histogram(hu(scan), edges)[0] for scan, mask in pairs])
    hits, predicted = (between_two_levels(counts) for counts in (lesion, whole))
    truth = lesion.sum(axis=1)[:, None, None]
    per_case = (2 * hits / (predicted + truth)).mean(axis=0)
    pooled = 2 * hits.sum(axis=0) / (predicted.sum(axis=0) + truth.sum())
    assert max(per_case[:, -1].max(), pooled[:, -1].max()) < 0.2  # thresholds
    assert max(per_case.max(), pooled.max()) < 0.5  # windows


def between_two_levels(counts: np.ndarray) -> np.ndarray:
    """Turn (cases, bins) counts into (cases, low, high) counts between each two levels."""
    below = np.pad(counts.cumsum(axis=1), ((0, 0), (1, 0)))
    return np.maximum(below[:, None, :] - below[:, :, None], 0)


def test_lesions_contain_ground_glass_and_consolidation(pairs):
    values = np.concatenate([hu(scan)[voxels(mask) > 0] for scan, mask in pairs])
    assert ((values > -650) & (values < -250)).mean() > 0.4
    assert ((values > -150) & (values < 100)).mean() > 0.05


@pytest.mark.parametrize(("cases", "seed"), [(0, 0), (-1, 0), (1, -1)])
def test_invalid_parameters_are_refused(tmp_path, cases, seed):
    with pytest.raises(InputError, match=f"cases={cases}, seed={seed}"):
        write_cohort(tmp_path, cases, seed)
    assert not list(tmp_path.iterdir())


def test_a_folder_with_other_scans_is_refused(tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "phantom_002.nii.gz").touch()
    with pytest.raises(InputError, match=r"phantom_002\.nii\.gz"):
        write_cohort(tmp_path, cases=1, seed=0)
