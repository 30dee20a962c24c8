"""The folds' scores put together, worked out by hand."""

import csv

import pytest

from components.assign_folds.assignment import assign, assigned
from components.ct.cases import Case, write_cases
from components.runtime.errors import InputError
from components.summarize_folds.fold_scores import read_folds_scores, write_table
from tests.train.conftest import write_shards


def evaluation(folder, scores):
    """An evaluation's table of cases, as far as it is used here."""
    folder.mkdir()
    with (folder / "cases.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["case_id", "patient_id", "lesion_ml", "dice"])
        table.writerows([case, case, 1.5, dice] for case, dice in scores.items())
    return folder


@pytest.fixture
def three_folds(tmp_path):
    scores = [{"a": 0.5, "b": 0.7}, {"c": 0.7, "d": 0.7}, {"e": 0.8}]
    return [evaluation(tmp_path / f"evaluation_{index}", fold) for index, fold in enumerate(scores)]


def test_mean_and_deviation_are_those_of_the_folds_means(three_folds):
    found = read_folds_scores([1, 2, 3], three_folds)
    assert found.mean == pytest.approx((0.6 + 0.7 + 0.8) / 3)
    assert found.sd == pytest.approx(0.1)
    assert found.case_mean == pytest.approx(3.4 / 5)
    assert 0.5 <= found.interval.low < found.case_mean < found.interval.high <= 0.8


def test_every_case_is_in_the_table_with_its_fold_and_on_the_page(three_folds, tmp_path):
    write_table(read_folds_scores([1, 2, 3], three_folds), tmp_path / "table", tmp_path / "report")
    with (tmp_path / "table" / "cases.csv").open(newline="") as file:
        rows = [(row["fold"], row["case_id"], row["dice"]) for row in csv.DictReader(file)]
    assert rows == [("1", "a", "0.5"), ("1", "b", "0.7"), ("2", "c", "0.7"), ("2", "d", "0.7"), ("3", "e", "0.8")]
    page = (tmp_path / "report").read_text()
    assert "Dice 0.700 ± 0.100 over 3 folds" in page


def test_a_missing_evaluation_and_a_case_tested_twice_are_told(three_folds, tmp_path):
    with pytest.raises(InputError, match=r"fold 2: .*No such file"):
        read_folds_scores([1, 2], [three_folds[0], tmp_path / "absent"])
    with pytest.raises(InputError, match="a, b tested twice"):
        read_folds_scores([1, 2], [three_folds[0], three_folds[0]])


def test_the_assignment_is_written_and_read_back(tmp_path):
    shards = write_shards(tmp_path / "shards", {"train": 4, "validation": 1, "test": 1}, slices=1)
    ids = [path.stem for path in sorted(shards.glob("*/*.tfrecord"))]
    write_cases(tmp_path / "cases", [Case(name, name, "test", "s", "m", "hu", "0", "0") for name in ids])
    assert assign(tmp_path / "cases", shards, tmp_path / "folds", 3, None, seed=0) == 3
    folds = assigned(tmp_path / "folds")
    assert sorted(case for fold in folds for case in fold) == ids
    again = assign(tmp_path / "cases", shards, tmp_path / "given", 7, tmp_path / "folds" / "folds.json", seed=9)
    assert again == 3
    assert assigned(tmp_path / "given") == folds
