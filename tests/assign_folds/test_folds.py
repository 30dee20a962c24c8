"""Folds: every case once, patients together, similar burdens; and the shards of one fold."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.assign_folds.folds import FOLDS_FILE, draw_folds, measure_lesion_burden, read_folds, write_folds
from components.ct.cases import Case, write_cases
from components.runtime.errors import CohortError, InputError
from components.select_fold.selection import select_fold
from components.slice.split import Split
from tests.train.conftest import write_shards


def make_cohort(patients: int, scans_of_first: int = 2) -> list[Case]:
    ids = [("p0", f"p0_{scan}") for scan in range(scans_of_first)]
    ids += [(f"p{index}", f"p{index}_0") for index in range(1, patients)]
    return [Case(case, patient, "test", "", "", "hu", "", "") for patient, case in ids]


def burdens(cases: list[Case], with_lesion: int | None = None) -> dict[str, float]:
    """Give the first cases, by default all, the same burden, and the others none."""
    return {case.case_id: 0.1 * (with_lesion is None or index < with_lesion) for index, case in enumerate(cases)}


def test_every_case_is_in_one_fold_and_a_patients_scans_are_in_the_same():
    cases = make_cohort(10)
    folds = draw_folds(cases, {case.case_id: index for index, case in enumerate(cases)}, 5, seed=0)
    assert sorted(case for fold in folds for case in fold) == sorted(case.case_id for case in cases)
    assert sum("p0_0" in fold and "p0_1" in fold for fold in folds) == 1


def test_each_fold_has_patients_of_low_and_high_burden():
    cases = make_cohort(15, scans_of_first=1)
    burden = {case.case_id: float(index) for index, case in enumerate(cases)}
    for fold in draw_folds(cases, burden, 5, seed=3):
        ranks = sorted(burden[case] for case in fold)
        assert [int(rank // 5) for rank in ranks] == [0, 1, 2]


def test_folds_differ_in_size_by_at_most_one_patient():
    cases = make_cohort(17, scans_of_first=1)
    sizes = [len(fold) for fold in draw_folds(cases, burdens(cases), 5, seed=0)]
    assert np.ptp(sizes) <= 1


def test_the_seed_determines_the_folds():
    cases = make_cohort(10)
    first, again, other = (draw_folds(cases, burdens(cases), 5, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


@given(st.integers(3, 40), st.integers(0, 40), st.integers(3, 12), st.integers(0, 10_000))
@settings(deadline=None)
def test_every_fold_has_a_patient_with_lesion_or_the_cohort_is_refused(patients, with_lesion, count, seed):
    cases = make_cohort(patients, scans_of_first=1)
    burden = burdens(cases, with_lesion)
    if count > min(patients, with_lesion):
        with pytest.raises(CohortError, match=f"{count} folds"):
            draw_folds(cases, burden, count, seed)
        return
    folds = draw_folds(cases, burden, count, seed)
    assert sorted(case for fold in folds for case in fold) == sorted(burden)
    assert all(any(burden[case] for case in fold) for fold in folds)


@pytest.mark.parametrize("count", [2, 11])
def test_too_few_folds_or_patients_are_an_error(count):
    with pytest.raises(CohortError, match=f"{count} folds of 10 patients"):
        draw_folds(make_cohort(10), {}, count, seed=0)


def test_burden_is_the_share_of_lesion(tmp_path):
    shards = write_shards(tmp_path / "shards", {"train": 1, "validation": 1, "test": 1}, slices=3, empty=True)
    assert measure_lesion_burden(shards) == {"train_0": 0, "validation_0": 0, "test_0": 0}


def write_json(path, content):
    path.write_text(json.dumps(content))
    return path


def test_folds_are_read_from_a_file(tmp_path):
    folds = [["p0_0", "p0_1"], ["p1_0"], ["p2_0"]]
    cases = make_cohort(3)
    assert read_folds(write_json(tmp_path / FOLDS_FILE, folds), cases, burdens(cases)) == folds


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ([["p0_0"], ["p0_1", "p1_0"], ["p2_0"]], "p0.*fold 1.*fold 2"),
        ([["p0_0", "p0_1"], ["p1_0"], ["p3_0"]], "p3_0 .*cohort.*p2_0 .*missing"),
        ([["p0_0", "p0_1"], ["p1_0", "p2_0"]], "2 folds.*3"),
        ([["p0_0", "p0_1"], ["p1_0"], ["p1_0", "p2_0"]], "p1_0 .*more than once"),
        ([["p0_0", "p0_1"], ["p1_0"], ["p2_0"], []], "fold 4 is empty"),
        ([["p0_0", "p0_1"], ["p1_0"], ["p2_0"], ["p3_0"]], "fold 4 has no case with lesion"),
        ("abc", "JSON list"),
        (7, "JSON list"),
    ],
)
def test_invalid_folds_are_an_error(tmp_path, folds, message):
    cases = make_cohort(4 if "p3_0" in str(folds) and len(folds) == 4 else 3)
    with pytest.raises(InputError, match=message):
        read_folds(write_json(tmp_path / FOLDS_FILE, folds), cases, burdens(cases, with_lesion=4))


def test_one_fold_tests_the_next_validates_and_the_others_train(tmp_path):
    shards = write_shards(tmp_path / "shards", {"train": 3, "validation": 1, "test": 2}, slices=1)
    folds = [["test_1", "train_0"], ["test_0", "train_1"], ["train_2", "validation_0"]]
    write_json(tmp_path / FOLDS_FILE, folds)
    split = select_fold(shards, tmp_path, tmp_path / "fold", number=3)
    assert split == Split.read(tmp_path / "fold")
    assert split.cases == {"test": folds[2], "validation": folds[0], "train": ["test_0", "train_1"]}
    assert sorted(path.stem for path in (tmp_path / "fold" / "train").iterdir()) == ["test_0", "train_1"]
    original, copy = shards / "test" / "test_0.tfrecord", tmp_path / "fold" / "train" / "test_0.tfrecord"
    assert original.read_bytes() == copy.read_bytes()


@pytest.mark.parametrize("number", [-1, 0, 4])
def test_a_fold_number_out_of_range_is_an_error(tmp_path, number):
    write_json(tmp_path / FOLDS_FILE, [["a"], ["b"], ["c"]])
    with pytest.raises(InputError, match=f"number is {number}; .*1 to 3"):
        select_fold(tmp_path / "shards", tmp_path, tmp_path / "fold", number=number)
    assert not (tmp_path / "fold").exists()


def test_drawn_folds_are_written_and_can_be_given_to_another_run(tmp_path):
    shards = write_shards(tmp_path / "shards", {"train": 4, "validation": 1, "test": 1}, slices=1)
    ids = [path.stem for path in sorted(shards.glob("*/*.tfrecord"))]
    write_cases(tmp_path / "cases", [Case(name, name, "test", "s", "m", "hu", "0", "0") for name in ids])
    folds = write_folds(tmp_path / "cases", shards, tmp_path / "drawn", count=3, folds_file=None, seed=0)
    drawn = tmp_path / "drawn" / FOLDS_FILE
    assert json.loads(drawn.read_text()) == folds
    assert sorted(case for fold in folds for case in fold) == ids
    assert write_folds(tmp_path / "cases", shards, tmp_path / "read", count=7, folds_file=drawn, seed=9) == folds
    assert (tmp_path / "read" / FOLDS_FILE).read_bytes() == drawn.read_bytes()
