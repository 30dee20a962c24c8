"""Folders of scans and masks, by the names that data sets give them."""

import pytest

from components.ingest.directory import find_folders
from components.runtime.errors import CohortError


def folders(root, *names):
    for name in names:
        (root / name).mkdir()
    return root


@pytest.mark.parametrize(
    ("present", "masks", "scan_folder", "mask_folder"),
    [
        (("scans", "infection_masks"), "infection_masks", "scans", "infection_masks"),
        (("COVID-19-CT-Seg_20cases", "Infection_Mask", "Lung_Mask"), "infection_masks", None, "Infection_Mask"),
        (("COVID-19-CT-Seg_20cases", "Infection_Mask", "Lung_Mask"), "lung_masks", None, "Lung_Mask"),
        (("COVID-19-CT-Seg_20cases", "Lung_and_Infection_Mask"), "lung_and_infection_masks", None, None),
        (("ct_scans", "infection_mask", "lung_and_infection_mask", "lung_mask"), "infection_masks", None, None),
        (("scans", "Lesions"), "Lesions", "scans", "Lesions"),
    ],
)
def test_the_layouts_of_zenodo_and_kaggle_are_recognized(tmp_path, present, masks, scan_folder, mask_folder):
    scans, found = find_folders(folders(tmp_path, *present), masks)
    assert (scans.name, found.name) == (scan_folder or present[0], mask_folder or present[1])


@pytest.mark.parametrize(
    ("present", "says"),
    [
        (("scans",), r"no folder of masks named infection_masks \(found scans\); add it, or set MASKS"),
        (("scans", "lung_masks"), r"\(found lung_masks, scans\)"),
        (("infection_masks",), r"no folder of scans \(found infection_masks\); name it scans"),
        ((), r"no folder of scans \(found no folders\)"),
        (("scans", "ct_scans", "infection_masks"), "ct_scans and scans could both be meant; keep one"),
    ],
)
def test_a_layout_that_cannot_be_told_is_refused_with_what_was_found(tmp_path, present, says):
    with pytest.raises(CohortError, match=says):
        find_folders(folders(tmp_path, *present), "infection_masks")


def test_a_source_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(CohortError, match="no such folder; give one with scans/ and infection_masks/, or gs://bucket"):
        find_folders(tmp_path / "nothing", "infection_masks")
