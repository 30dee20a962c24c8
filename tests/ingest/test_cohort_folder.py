"""The layout of a cohort's folder and the files that are not used."""

import pytest

from components.ingest.cohort_folder import find_folders, find_unused
from components.runtime.errors import CohortError


def make_folders(root, *names):
    for name in names:
        (root / name).mkdir()
    return root


@pytest.mark.parametrize(
    ("names", "masks", "scan_folder", "mask_folder"),
    [
        (("scans", "infection_masks"), "infection_masks", "scans", "infection_masks"),
        (("COVID-19-CT-Seg_20cases", "Infection_Mask", "Lung_Mask"), "infection_masks", None, "Infection_Mask"),
        (("COVID-19-CT-Seg_20cases", "Infection_Mask", "Lung_Mask"), "lung_masks", None, "Lung_Mask"),
        (("COVID-19-CT-Seg_20cases", "Lung_and_Infection_Mask"), "lung_and_infection_masks", None, None),
        (("ct_scans", "infection_mask", "lung_and_infection_mask", "lung_mask"), "infection_masks", None, None),
        (("scans", "Lesions"), "Lesions", "scans", "Lesions"),
    ],
)
def test_zenodo_and_kaggle_layouts_are_recognized(tmp_path, names, masks, scan_folder, mask_folder):
    scans, found = find_folders(make_folders(tmp_path, *names), masks)
    assert (scans.name, found.name) == (scan_folder or names[0], mask_folder or names[1])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("scans",), r"infection_masks .*found scans.*MASKS"),
        (("scans", "lung_masks"), "found lung_masks, scans"),
        (("infection_masks",), r"scans .*found infection_masks\b"),
        ((), "scans .*no folders"),
        (("scans", "ct_scans", "infection_masks"), "ct_scans and scans"),
    ],
)
def test_an_incomplete_or_ambiguous_layout_is_refused_with_the_folders_found(tmp_path, names, message):
    with pytest.raises(CohortError, match=message):
        find_folders(make_folders(tmp_path, *names), "infection_masks")


def test_a_missing_source_is_refused_with_the_expected_layout(tmp_path):
    with pytest.raises(CohortError, match=r"missing: .*scans/ and infection_masks/, or gs://bucket"):
        find_folders(tmp_path / "missing", "infection_masks")


@pytest.mark.parametrize("masks", ["scans", "Scan"])
def test_the_folder_of_scans_is_no_folder_of_masks(tmp_path, masks):
    with pytest.raises(CohortError, match=f"masks '{masks}' is the folder of scans .found infection_masks, scans"):
        find_folders(make_folders(tmp_path, "scans", "infection_masks"), masks)


def test_unused_files_are_listed_and_those_of_a_wholly_unused_folder_counted():
    names = ["scans/a.nii", "scans/b.mha", "scans/CD/1", "scans/CD/2", "scans/c/DICOM/1", "scans/c/notes/n.txt"]
    names += [f"scans/IM{k}" for k in range(6)] + [f"scans/{k}.nrrd" for k in range(9)]
    names += ["lung_masks/a.nii", "lung_masks/deep/b.nii", "LICENSE", "masks/a.nii"]
    unused = find_unused(names, ["scans/a.nii", "scans/c/DICOM/1", "masks/a.nii"])
    together = {"LICENSE": 1, "lung_masks/": 2, "scans/*": 6, "scans/*.nrrd": 9, "scans/CD/": 2}
    assert unused == {**together, "scans/b.mha": 1, "scans/c/notes/": 1}
