"""The scores of all folds as one table, with mean, standard deviation and bootstrap interval."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from components.ct.cases import TABLE
from components.evaluate.cohort import Interval, mean_interval
from components.report.page import write_page
from components.runtime.errors import InputError
from components.runtime.files import atomic_write


@dataclass(frozen=True)
class FoldScores:
    """Every case of the cohort, scored by the network of the fold that left it out.

    Attributes:
        rows: rows of the evaluations' `cases.csv`, with `fold` in front.
    """

    rows: list[dict[str, str]]

    @property
    def folds(self) -> dict[str, list[float]]:
        """The Dice of each case, by fold."""
        found: dict[str, list[float]] = {}
        for row in self.rows:
            found.setdefault(row["fold"], []).append(float(row["dice"]))
        return found

    @property
    def mean(self) -> float:
        """Mean over the folds of their mean Dice."""
        return fmean(fmean(dices) for dices in self.folds.values())

    @property
    def sd(self) -> float:
        """Standard deviation of the folds' mean Dice; 0 for a single fold."""
        means = [fmean(dices) for dices in self.folds.values()]
        return stdev(means) if len(means) > 1 else 0.0

    @property
    def case_mean(self) -> float:
        """Mean Dice of all cases."""
        return fmean(float(row["dice"]) for row in self.rows)

    @property
    def interval(self) -> Interval | None:
        """The 95 % interval of that mean, by bootstrap over patients; None for fewer than two."""
        return mean_interval([row["patient_id"] for row in self.rows], [float(row["dice"]) for row in self.rows])

    def summary(self) -> dict[str, float]:
        """The numbers that stand for a cross-validation in a list of runs."""
        found = {"mean_dice": self.mean, "sd_dice": self.sd, "case_mean_dice": self.case_mean}
        if self.interval:
            found |= {"dice_low_95": self.interval.low, "dice_high_95": self.interval.high}
        return found


def read_folds_scores(numbers: Sequence[int], evaluations: Sequence[Path]) -> FoldScores:
    """Read the evaluations of all folds.

    Raises:
        InputError: one is missing, or a case was tested twice.
    """
    rows: list[dict[str, str]] = []
    for number, folder in zip(numbers, evaluations, strict=True):
        try:
            with (folder / TABLE).open(newline="") as file:
                rows += [{"fold": str(number), **row} for row in csv.DictReader(file)]
        except OSError as error:
            raise InputError(f"fold {number}: {error.filename}: {error.strerror}; run its evaluation again") from error
    ids = [row["case_id"] for row in rows]
    twice = sorted({case for case in ids if ids.count(case) > 1})
    if twice or not rows:
        raise InputError(f"cross-validation: {', '.join(twice) or 'no case'} tested twice or never; the folds overlap")
    return FoldScores(sorted(rows, key=lambda row: (int(row["fold"]), row["case_id"])))


def write_table(found: FoldScores, table: Path, report: Path) -> None:
    """Write `cases.csv` into the folder `table`, and the page."""
    with atomic_write(table) as temporary:
        temporary.mkdir(parents=True)
        with (temporary / TABLE).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(found.rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(found.rows)
    folds = {fold: (fmean(dices), min(dices), max(dices), len(dices)) for fold, dices in found.folds.items()}
    write_page(report, Path(__file__).parent / "report.html.jinja", found=found, folds=folds)
    for fold, (mean, *_, count) in folds.items():
        print(f"fold {fold}: mean Dice {mean:.3f} of {count} cases", flush=True)
    print(f"mean over folds {found.mean:.3f} ± {found.sd:.3f}", flush=True)
