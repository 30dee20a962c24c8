"""Pairs of scans and masks by name."""

from pathlib import Path

import pytest

from components.ingest.pairing import pair_by_name, parse_case_id

KAGGLE = {
    "coronacases_org_001.nii": "coronacases_001.nii",
    "coronacases_org_010.nii": "coronacases_010.nii",
    "radiopaedia_org_covid-19-pneumonia-10_85902_1-dcm.nii": "radiopaedia_10_85902_1.nii",
    "radiopaedia_org_covid-19-pneumonia-4_85506_1-dcm.nii": "radiopaedia_4_85506_1.nii",
}


@pytest.mark.parametrize(
    ("file_name", "case_id"),
    [
        ("coronacases_001.nii.gz", "coronacases_001"),
        ("radiopaedia_org_covid-19-pneumonia-29_86490_1-dcm.nii", "radiopaedia_29_86490_1"),
        ("semiseg_0000.nii.gz", "semiseg_0000"),
        ("Case 7_CT.NII.GZ", "Case-7"),
        ("case7-seg.nii", "case7"),
        ("case_mask.nii.gz", "case"),
        ("müller.nii.gz", "muller-2dbd2180"),
        ("mu\u0308ller_CT.nii", "muller-2dbd2180"),  # the decomposed form of the same name
        ("患者.nii.gz", "case-9db4a3b3"),
        ("case\u00a07\u200b.nii", "case-7"),
        ("...nii.gz", ""),
    ],
)
def test_the_case_id_comes_from_the_file_name(file_name, case_id):
    assert parse_case_id(file_name) == case_id


def test_kaggle_names_pair_in_any_order():
    scans, masks = list(map(Path, KAGGLE)), list(map(Path, KAGGLE.values()))
    pairs, problems = pair_by_name(scans, masks[::-1])
    assert problems == []
    assert {pair.scan.name: pair.mask.name for pair in pairs} == KAGGLE


def test_an_unpaired_file_is_reported_with_the_expected_name():
    pairs, problems = pair_by_name([Path("a.nii"), Path("b.nii")], [Path("b.nii"), Path("c.nii")])
    assert [pair.case_id for pair in pairs] == ["b"]
    assert problems == [
        "scan a.nii has no mask; expected one named a.nii.gz",
        "mask c.nii has no scan; expected one named c.nii.gz",
    ]


@pytest.mark.parametrize("duplicate", ["a.nii", "A.nii.gz", "a_ct.nii.gz"])
def test_two_scans_of_one_case_are_reported(duplicate):
    _, problems = pair_by_name([Path("a.nii.gz"), Path(duplicate)], [Path("a.nii.gz")])
    assert problems == [f"a.nii.gz and {duplicate} are two scans of one case; keep one, or rename one"]


def test_long_names_and_names_with_letters_beyond_ascii_are_different_cases():
    names = ["pät.nii", "pöt.nii", "pat.nii", "李.nii", "王.nii", "x" * 250 + "1.nii", "x" * 250 + "2.nii"]
    pairs, problems = pair_by_name(map(Path, names), map(Path, names))
    assert problems == []
    assert len({pair.case_id for pair in pairs}) == len(names)
    assert max(len(pair.case_id) for pair in pairs) < 140
    assert all(pair.scan == pair.mask for pair in pairs)


def test_two_nested_scans_of_one_name_are_reported_with_their_folders():
    _, problems = pair_by_name([Path("in/p1/scan.nii.gz"), Path("in/p2/scan.nii.gz")], [Path("m/scan.nii.gz")])
    assert problems == ["p1/scan.nii.gz and p2/scan.nii.gz are two scans of one case; keep one, or rename one"]


def test_a_name_without_letters_or_digits_is_reported():
    _, (problem,) = pair_by_name([Path("_.nii")], [])
    assert problem.startswith("_.nii: ")
