"""The summary of all folds, computed by hand."""

import csv
import json

import pytest

from components.assign_folds.folds import FOLDS_FILE
from components.evaluate import scores
from components.runtime.errors import InputError
from components.summarize_folds.fold_scores import read_fold_scores, write_fold_scores


def write_evaluation(folder, dices):
    """Write the columns of an evaluation's score table that the summary reads."""
    folder.mkdir()
    with (folder / scores.SCORES_FILE).open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["case_id", "patient_id", "lesion_ml", "predicted_ml", "dice"])
        for case, dice in dices.items():
            lesion_ml = 0.0 if case.startswith("empty") else 1.5
            table.writerow([case, case, lesion_ml, 0.25, dice])
    return folder


@pytest.fixture
def evaluations(tmp_path):
    folds = [{"a": 0.5, "b": 0.7}, {"c": 0.7, "d": 0.7}, {"e": 0.8}]
    return [write_evaluation(tmp_path / f"evaluation_{index}", dices) for index, dices in enumerate(folds)]


@pytest.fixture
def assignment(tmp_path):
    return write_assignment(tmp_path / "assignment", [["a", "b"], ["c", "d"], ["e"]])


def write_assignment(folder, folds):
    folder.mkdir()
    (folder / FOLDS_FILE).write_text(json.dumps(folds))
    return folder


def test_mean_and_deviation_are_those_of_the_folds_means(assignment, evaluations):
    summary = read_fold_scores(assignment, evaluations)
    assert summary.mean == pytest.approx((0.6 + 0.7 + 0.8) / 3)
    assert summary.sd == pytest.approx(0.1)
    assert summary.case_mean == pytest.approx(3.4 / 5)
    assert 0.5 <= summary.interval.low < summary.case_mean < summary.interval.high <= 0.8


def test_cases_without_lesion_count_in_no_mean(tmp_path):
    dices = [{"a": 0.5, "empty_1": 1.0}, {"b": 0.7, "empty_2": 0.0}]
    assignment = write_assignment(tmp_path / "folds", [list(fold) for fold in dices])
    evaluations = [write_evaluation(tmp_path / f"evaluation_{index}", fold) for index, fold in enumerate(dices)]
    summary = read_fold_scores(assignment, evaluations)
    assert (summary.mean, summary.case_mean) == (pytest.approx(0.6), pytest.approx(0.6))
    assert (summary.interval.low, summary.interval.high) == (pytest.approx(0.5), pytest.approx(0.7))
    metrics = summary.summary()
    assert (metrics["cases"], metrics["cases_with_lesion"], metrics["false_positive_ml"]) == (4, 2, 0.25)
    write_fold_scores(summary, tmp_path / "table", tmp_path / "report")
    page = (tmp_path / "report").read_text()
    assert "mean of all 2 cases with lesion" in page
    assert "predicted at most in 2 without lesion" in page


def test_a_fold_without_lesion_is_an_error(tmp_path):
    assignment = write_assignment(tmp_path / "folds", [["a"], ["empty"]])
    evaluations = [write_evaluation(tmp_path / case, {case: 1.0}) for case in ("a", "empty")]
    with pytest.raises(InputError, match="fold 2 has no case with lesion"):
        read_fold_scores(assignment, evaluations)


@pytest.mark.parametrize("order", [1, -1])
def test_the_table_and_the_page_list_every_case_with_its_fold_in_any_order(order, assignment, evaluations, tmp_path):
    write_fold_scores(read_fold_scores(assignment, evaluations[::order]), tmp_path / "table", tmp_path / "report")
    with (tmp_path / "table" / "cases.csv").open(newline="") as file:
        rows = [(row["fold"], row["case_id"], row["dice"]) for row in csv.DictReader(file)]
    assert rows == [("1", "a", "0.5"), ("1", "b", "0.7"), ("2", "c", "0.7"), ("2", "d", "0.7"), ("3", "e", "0.8")]
    assert "Dice 0.700 ± 0.100 over 3 folds" in (tmp_path / "report").read_text()


def test_scores_come_from_the_table_of_evaluate(tmp_path, monkeypatch):
    monkeypatch.setattr(scores, "SCORES_FILE", "scores.csv")
    assignment = write_assignment(tmp_path / "one", [["a"]])
    assert read_fold_scores(assignment, [write_evaluation(tmp_path / "evaluation", {"a": 0.5})]).mean == 0.5


def test_a_missing_evaluation_and_a_case_in_no_or_two_folds_are_errors(assignment, evaluations, tmp_path):
    with pytest.raises(InputError, match=r"absent.*No such file"):
        read_fold_scores(assignment, [*evaluations[:2], tmp_path / "absent"])
    with pytest.raises(InputError, match="2 evaluations; expected one for each of 3 folds"):
        read_fold_scores(assignment, evaluations[:2])
    with pytest.raises(InputError, match="a, b tested twice"):
        read_fold_scores(assignment, [*evaluations[:2], evaluations[0]])
    with pytest.raises(InputError, match="case 'f' is in no fold"):
        read_fold_scores(assignment, [*evaluations[:2], write_evaluation(tmp_path / "other", {"f": 0.5})])
