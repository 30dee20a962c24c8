"""The scores of all folds as one table and page, with mean, standard deviation and bootstrap interval."""

import csv
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from components.assign_folds.folds import read_assignment
from components.evaluate import scores
from components.evaluate.cohort import Interval, mean_interval
from components.report.page import write_page
from components.runtime.errors import InputError
from components.runtime.files import atomic_folder

_log = logging.getLogger(__name__)
TABLE_FILE = "cases.csv"


@dataclass(frozen=True)
class FoldScores:
    """Every case of the cohort, scored by a network that was not trained on it."""

    rows: list[dict[str, str]]  # of the evaluations' score tables, with `fold` as the first column

    @property
    def with_lesion(self) -> list[dict[str, str]]:
        """The cases with lesion, the only ones whose Dice measures a network."""
        return [row for row in self.rows if float(row["lesion_ml"]) != 0]

    @property
    def without_lesion(self) -> list[dict[str, str]]:
        """The cases without lesion."""
        return [row for row in self.rows if float(row["lesion_ml"]) == 0]

    @property
    def folds(self) -> dict[str, list[float]]:
        """The Dice of each case with lesion, by fold."""
        folds: dict[str, list[float]] = {}
        for row in self.with_lesion:
            folds.setdefault(row["fold"], []).append(float(row["dice"]))
        return folds

    @property
    def mean(self) -> float:
        """The mean over the folds of their mean Dice."""
        return fmean(fmean(dices) for dices in self.folds.values())

    @property
    def sd(self) -> float:
        """The standard deviation of the folds' mean Dice; 0 for a single fold."""
        means = [fmean(dices) for dices in self.folds.values()]
        return stdev(means) if len(means) > 1 else 0.0

    @property
    def case_mean(self) -> float:
        """The mean Dice of all cases with lesion."""
        return fmean(float(row["dice"]) for row in self.with_lesion)

    @property
    def interval(self) -> Interval | None:
        """The 95 % interval of `case_mean`, by bootstrap over patients; None for fewer than two."""
        rows = self.with_lesion
        return mean_interval([row["patient_id"] for row in rows], [float(row["dice"]) for row in rows])

    @property
    def false_positive_ml(self) -> float | None:
        """The largest volume predicted in a case without lesion; None if all have lesion."""
        return max((float(row["predicted_ml"]) for row in self.without_lesion), default=None)

    def summary(self) -> dict[str, float]:
        """The step's metrics."""
        metrics = {"mean_dice": self.mean, "sd_dice": self.sd, "case_mean_dice": self.case_mean}
        metrics |= {"cases": len(self.rows), "cases_with_lesion": len(self.with_lesion)}
        if self.false_positive_ml is not None:
            metrics["false_positive_ml"] = self.false_positive_ml
        if self.interval:
            metrics |= {"dice_low_95": self.interval.low, "dice_high_95": self.interval.high}
        return metrics


def read_fold_scores(assignment: Path, evaluations: Sequence[Path]) -> FoldScores:
    """Read the evaluations of all folds, in any order.

    Args:
        assignment: output of assign_folds.
        evaluations: output of evaluate for each fold.

    Raises:
        InputError: an evaluation is missing, a case is not in one test fold, or a fold has no case with lesion.
    """
    folds = read_assignment(assignment)
    fold_of_case = {case: str(number) for number, fold in enumerate(folds, 1) for case in fold}
    if len(evaluations) != len(folds):
        raise InputError(
            f"cross-validation: {len(evaluations)} evaluations; expected one for each of {len(folds)} folds"
        )
    rows: list[dict[str, str]] = []
    for folder in evaluations:
        try:
            with (folder / scores.SCORES_FILE).open(newline="") as file:
                rows += [{"fold": fold_of_case[row["case_id"]], **row} for row in csv.DictReader(file)]
        except OSError as error:
            raise InputError(f"{error.filename}: {error.strerror}; run this fold's evaluation again") from error
        except KeyError as error:
            raise InputError(f"{folder}: case {error} is in no fold; run this fold's evaluation again") from error
    counts = Counter(row["case_id"] for row in rows)
    duplicates = sorted(case for case, count in counts.items() if count > 1)
    if duplicates or not rows:
        problem = f"{', '.join(duplicates)} tested twice" if duplicates else "no case tested"
        raise InputError(f"cross-validation: {problem}; expected every case in one test fold; check the folds")
    fold_scores = FoldScores(sorted(rows, key=lambda row: (int(row["fold"]), row["case_id"])))
    without = sorted({row["fold"] for row in rows} - fold_scores.folds.keys(), key=int)
    if without:
        raise InputError(f"cross-validation: fold {', '.join(without)} has no case with lesion; expected one or more")
    return fold_scores


def write_fold_scores(fold_scores: FoldScores, table: Path, report: Path) -> None:
    """Write `cases.csv` into the folder `table`, and the HTML page `report`."""
    with atomic_folder(table) as temporary, (temporary / TABLE_FILE).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(fold_scores.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(fold_scores.rows)
    folds = {fold: (fmean(dices), min(dices), max(dices), len(dices)) for fold, dices in fold_scores.folds.items()}
    worst_first = sorted(fold_scores.rows, key=lambda row: float(row["dice"]))
    template = Path(__file__).parent / "report.html.jinja"
    write_page(report, template, scores=fold_scores, folds=folds, worst_first=worst_first)
    for fold, (mean, *_, count) in folds.items():
        _log.info("fold %s: mean Dice %.3f of %d cases with lesion", fold, mean, count)
    _log.info("mean over folds %.3f ± %.3f", fold_scores.mean, fold_scores.sd)
