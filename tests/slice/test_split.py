"""The split by patient."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.ct.cases import Case
from components.runtime.errors import CohortError
from components.slice.split import Split, require_patients_apart, split_by_patient


def make_case(case_id: str, patient_id: str | None = None) -> Case:
    return Case(case_id, patient_id or case_id, "test", f"scans/{case_id}.nii.gz", "", "hu", "", "")


def make_cohort(patients: list[int]) -> list[Case]:
    return [make_case(f"c{n:03}", f"p{patient}") for n, patient in enumerate(patients)]


@given(st.lists(st.integers(0, 30), min_size=3, max_size=60), st.integers(0, 1000))
@settings(deadline=None)
def test_the_scans_of_a_patient_stay_together(patients, seed):
    cases = make_cohort(patients)
    burden = {case.case_id: (index + 1) / len(cases) for index, case in enumerate(cases)}
    if len(set(patients)) < 3:
        with pytest.raises(CohortError, match="at least 3"):
            split_by_patient(cases, burden, seed)
        return
    parts = split_by_patient(cases, burden, seed)
    require_patients_apart(cases, parts)
    assert sorted(itertools.chain(*parts.values())) == [case.case_id for case in cases]
    assert all(parts.values())


def test_twenty_patients_are_split_into_twelve_four_and_four():
    cases = make_cohort(list(range(20)))
    parts = split_by_patient(cases, {case.case_id: 0.1 for case in cases}, 0)
    assert {name: len(ids) for name, ids in parts.items()} == {"train": 12, "validation": 4, "test": 4}


@given(st.integers(0, 10_000))
@settings(deadline=None)
def test_each_held_out_split_has_low_and_high_burdens(seed):
    cases = make_cohort(list(range(20)))
    burden = {case.case_id: index / 100 for index, case in enumerate(cases)}
    parts = split_by_patient(cases, burden, seed)
    for held_out in ("validation", "test"):
        # One patient of each quarter of the cohort, ordered by burden.
        assert sorted(int(burden[case_id] * 100) // 5 for case_id in parts[held_out]) == [0, 1, 2, 3]


@given(st.integers(3, 40), st.integers(0, 40), st.integers(0, 10_000))
@settings(deadline=None)
def test_every_part_has_a_patient_with_lesion_or_the_cohort_is_refused(patients, with_lesion, seed):
    cases = make_cohort(list(range(patients)))
    burden = {case.case_id: 0.1 * (index < with_lesion) for index, case in enumerate(cases)}
    if with_lesion < 3:
        with pytest.raises(CohortError, match=rf"{with_lesion} of {patients} patients with lesion.*train, validation"):
            split_by_patient(cases, burden, seed)
        return
    for part in split_by_patient(cases, burden, seed).values():
        assert any(burden[case_id] for case_id in part)


def test_cases_without_lesion_reach_the_test_set_of_a_cohort_with_several_test_patients():
    cases = make_cohort(list(range(20)))
    burden = {case.case_id: 0.1 * (index < 10) for index, case in enumerate(cases)}
    for seed in range(20):
        assert any(not burden[case_id] for case_id in split_by_patient(cases, burden, seed)["test"])


def test_the_seed_determines_the_split():
    cases = make_cohort(list(range(20)))
    burden = {case.case_id: index / 100 for index, case in enumerate(cases)}
    assert split_by_patient(cases, burden, 1) == split_by_patient(cases, burden, 1)
    assert split_by_patient(cases, burden, 1) != split_by_patient(cases, burden, 2)


def test_a_patient_in_two_parts_is_an_error():
    cases = [make_case("a", "p1"), make_case("b", "p1"), make_case("c", "p2")]
    with pytest.raises(CohortError, match="p1 in test and train"):
        require_patients_apart(cases, {"train": ["a", "c"], "test": ["b"]})


def test_a_split_round_trips(tmp_path):
    split = Split({"train": ["a"], "validation": ["b"], "test": ["c"]}, 128, 3)
    split.write(tmp_path)
    assert Split.read(tmp_path) == split
