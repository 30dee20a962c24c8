"""The layout of a cohort's folder: scans, masks and patients."""

import pytest

from components.ingest.cohort_folder import assign_patients, find_folders
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


def test_the_patients_of_the_20_case_set_are_known(tmp_path):
    cases = ["radiopaedia_10_85902_1", "radiopaedia_10_85902_3", "radiopaedia_29_86490_1", "radiopaedia_29_86491_1"]
    patients = assign_patients([*cases, "radiopaedia_36_86526_0"], tmp_path)
    assert patients[cases[0]] == patients[cases[1]] != patients[cases[2]] == patients[cases[3]]
    assert patients["radiopaedia_36_86526_0"] == "radiopaedia_36_86526_0"


def test_patients_csv_overrides_known_patients_and_may_name_files(tmp_path):
    (tmp_path / "patients.csv").write_text(
        "\ufeffcase_id,patient_id\na,p1\nb_ct.nii.gz,p1\nradiopaedia_10_85902_1,p2\n"
    )
    patients = assign_patients(["a", "b", "c", "radiopaedia_10_85902_1"], tmp_path)
    assert patients == {"a": "p1", "b": "p1", "c": "c", "radiopaedia_10_85902_1": "p2"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"case_id,patient_id\na,p\nx,p\n", "1 cases.*line 3"),
        (b"case_id,patient_id\na,\n", ".*case_id.*patient_id"),
        (b"case,patient\na,p\n", ".*case_id.*patient_id"),
        (b"\xff\xfe\x00", ".*UTF-8"),
    ],
)
def test_an_invalid_patients_csv_is_refused(tmp_path, content, message):
    (tmp_path / "patients.csv").write_bytes(content)
    with pytest.raises(CohortError, match=rf"patients\.csv: {message}"):
        assign_patients(["a"], tmp_path)
