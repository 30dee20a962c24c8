"""Folds: every case once, patients together, burdens alike; and the shards of one fold."""

import json

import numpy as np
import pytest

from components.assign_folds.folds import draw_folds, lesion_burden, read_folds, select_fold
from components.ct.cases import Case
from components.runtime.errors import CohortError
from components.slice.split import Split
from tests.train.conftest import write_shards


def cohort(patients: int, scans_of_first: int = 2) -> list[Case]:
    ids = [("p0", f"p0_{scan}") for scan in range(scans_of_first)]
    ids += [(f"p{index}", f"p{index}_0") for index in range(1, patients)]
    return [Case(case, patient, "test", "", "", "hu", "", "") for patient, case in ids]


def test_every_case_is_in_one_fold_and_a_patients_scans_in_the_same():
    cases = cohort(10)
    folds = draw_folds(cases, {case.case_id: index for index, case in enumerate(cases)}, 5, seed=0)
    assert sorted(case for fold in folds for case in fold) == sorted(case.case_id for case in cases)
    assert sum("p0_0" in fold and "p0_1" in fold for fold in folds) == 1


def test_each_fold_gets_light_and_heavy_patients():
    cases = cohort(15, scans_of_first=1)
    burden = {case.case_id: float(index) for index, case in enumerate(cases)}
    for fold in draw_folds(cases, burden, 5, seed=3):
        ranks = sorted(burden[case] for case in fold)
        assert [int(rank // 5) for rank in ranks] == [0, 1, 2]


def test_the_seed_decides():
    cases = cohort(10)
    assert draw_folds(cases, {}, 5, seed=1) == draw_folds(cases, {}, 5, seed=1) != draw_folds(cases, {}, 5, seed=2)


@pytest.mark.parametrize("count", [2, 11])
def test_too_few_folds_or_patients_are_an_error(count):
    with pytest.raises(CohortError, match=f"{count} folds of 10 patients"):
        draw_folds(cohort(10), {}, count, seed=0)


def test_a_fold_is_tested_the_next_validates_and_the_others_train(tmp_path):
    shards = write_shards(tmp_path / "shards", {"train": 3, "validation": 1, "test": 2}, slices=1)
    folds = [["train_0", "test_1"], ["train_1", "test_0"], ["train_2", "validation_0"]]
    split = select_fold(shards, tmp_path / "fold", folds, number=3)
    assert split == Split.read(tmp_path / "fold")
    assert split.cases == {"test": folds[2], "validation": folds[0], "train": ["test_0", "train_1"]}
    assert sorted(path.stem for path in (tmp_path / "fold" / "train").iterdir()) == ["test_0", "train_1"]
    original, copy = shards / "test" / "test_0.tfrecord", tmp_path / "fold" / "train" / "test_0.tfrecord"
    assert original.read_bytes() == copy.read_bytes()


def test_burden_is_the_share_of_lesion(tmp_path):
    shards = write_shards(tmp_path / "shards", {"train": 1, "validation": 1, "test": 1}, slices=3, empty=True)
    assert lesion_burden(shards) == {"train_0": 0, "validation_0": 0, "test_0": 0}


def test_given_folds_are_taken_as_they_are(tmp_path):
    path = tmp_path / "folds.json"
    path.write_text(json.dumps([["p0_0", "p0_1"], ["p1_0"], ["p2_0"]]))
    assert read_folds(path, cohort(3)) == [["p0_0", "p0_1"], ["p1_0"], ["p2_0"]]


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ([["p0_0"], ["p0_1", "p1_0"], ["p2_0"]], "p0 in fold 1 and fold 2"),
        ([["p0_0", "p0_1"], ["p1_0"], ["p3_0"]], "p3_0 is no case of the cohort; p2_0 is in no fold"),
        ([["p0_0", "p0_1"], ["p1_0", "p2_0"]], "2 folds, where 3 or more are needed"),
        ([["p0_0", "p0_1"], ["p1_0"], ["p1_0", "p2_0"]], "p1_0 is named more than once"),
        ("abc", "no case of the cohort"),
        (7, "no folds"),
    ],
)
def test_impossible_folds_are_told(tmp_path, folds, message):
    path = tmp_path / "folds.json"
    path.write_text(json.dumps(folds))
    with pytest.raises(CohortError, match=message):
        read_folds(path, cohort(3))


def test_folds_differ_in_size_by_one_patient_at_most():
    sizes = [len(fold) for fold in draw_folds(cohort(17, scans_of_first=1), {}, 5, seed=0)]
    assert np.ptp(sizes) <= 1
