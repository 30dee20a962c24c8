"""Scans of one patient are known as such."""

import pytest

from components.ingest.patients import patients_of
from components.runtime.errors import CohortError


def test_the_pairs_of_the_20_case_set_are_known(tmp_path):
    cases = ["radiopaedia_10_85902_1", "radiopaedia_10_85902_3", "radiopaedia_29_86490_1", "radiopaedia_29_86491_1"]
    patients = patients_of([*cases, "radiopaedia_36_86526_0"], tmp_path)
    assert patients[cases[0]] == patients[cases[1]] != patients[cases[2]] == patients[cases[3]]
    assert patients["radiopaedia_36_86526_0"] == "radiopaedia_36_86526_0"


def test_the_sources_own_list_wins_and_may_name_files(tmp_path):
    (tmp_path / "patients.csv").write_text(
        "\ufeffcase_id,patient_id\na,p1\nb_ct.nii.gz,p1\nradiopaedia_10_85902_1,p2\n"
    )
    patients = patients_of(["a", "b", "c", "radiopaedia_10_85902_1"], tmp_path)
    assert patients == {"a": "p1", "b": "p1", "c": "c", "radiopaedia_10_85902_1": "p2"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("case_id,patient_id\na,p\nx,p\n", "names 1 cases that have no scan, in line 3; correct"),
        ("case_id,patient_id\na,\n", "a row lacks case_id or patient_id"),
        ("case,patient\na,p\n", "a row lacks case_id or patient_id"),
        (b"\xff\xfe\x00", "is no UTF-8 text"),
    ],
)
def test_a_list_that_cannot_be_trusted_is_refused(tmp_path, content, says):
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "patients.csv").write_bytes(data)
    with pytest.raises(CohortError, match=rf"patients\.csv: {says}"):
        patients_of(["a"], tmp_path)
