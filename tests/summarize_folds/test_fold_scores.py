"""The summary of all folds, computed by hand."""

import csv

import pytest

from components.evaluate import scores
from components.runtime.errors import InputError
from components.summarize_folds.fold_scores import read_fold_scores, write_fold_scores


def write_evaluation(folder, dices):
    """Write the columns of an evaluation's score table that the summary reads."""
    folder.mkdir()
    with (folder / scores.SCORES_FILE).open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["case_id", "patient_id", "lesion_ml", "dice"])
        table.writerows([case, case, 1.5, dice] for case, dice in dices.items())
    return folder


@pytest.fixture
def evaluations(tmp_path):
    folds = [{"a": 0.5, "b": 0.7}, {"c": 0.7, "d": 0.7}, {"e": 0.8}]
    return [write_evaluation(tmp_path / f"evaluation_{index}", dices) for index, dices in enumerate(folds)]


def test_mean_and_deviation_are_those_of_the_folds_means(evaluations):
    summary = read_fold_scores([1, 2, 3], evaluations)
    assert summary.mean == pytest.approx((0.6 + 0.7 + 0.8) / 3)
    assert summary.sd == pytest.approx(0.1)
    assert summary.case_mean == pytest.approx(3.4 / 5)
    assert 0.5 <= summary.interval.low < summary.case_mean < summary.interval.high <= 0.8


def test_the_table_and_the_page_list_every_case_with_its_fold(evaluations, tmp_path):
    write_fold_scores(read_fold_scores([1, 2, 3], evaluations), tmp_path / "table", tmp_path / "report")
    with (tmp_path / "table" / "cases.csv").open(newline="") as file:
        rows = [(row["fold"], row["case_id"], row["dice"]) for row in csv.DictReader(file)]
    assert rows == [("1", "a", "0.5"), ("1", "b", "0.7"), ("2", "c", "0.7"), ("2", "d", "0.7"), ("3", "e", "0.8")]
    assert "Dice 0.700 ± 0.100 over 3 folds" in (tmp_path / "report").read_text()


def test_scores_come_from_the_table_of_evaluate(tmp_path, monkeypatch):
    monkeypatch.setattr(scores, "SCORES_FILE", "scores.csv")
    assert read_fold_scores([1], [write_evaluation(tmp_path / "evaluation", {"a": 0.5})]).mean == 0.5


def test_a_missing_evaluation_and_a_case_tested_twice_are_errors(evaluations, tmp_path):
    with pytest.raises(InputError, match=r"fold 2: .*No such file"):
        read_fold_scores([1, 2], [evaluations[0], tmp_path / "absent"])
    with pytest.raises(InputError, match="a, b tested twice"):
        read_fold_scores([1, 2], [evaluations[0], evaluations[0]])
