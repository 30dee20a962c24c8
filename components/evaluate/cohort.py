"""Statistics over test cases: groups, bootstrap intervals, slice detection, and the comparison with the champion."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from components.evaluate.scores import CaseScore, GateCase, with_lesion

RESAMPLES = 2000
CONFIDENCE = 0.95
_SEED = 0  # fixed: the same scores always give the same verdict
_DRAWN_AT_ONCE = 1_000_000  # patients, to bound the memory: 24 bytes for each


@dataclass(frozen=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float


def mean_interval(patients: Sequence[str], values: Sequence[float]) -> Interval | None:
    """Compute the 95 % interval of a mean over cases, given the patient and the value of each case.

    Percentile bootstrap over patients (Efron, 1979): patients are drawn with all their scans, because two scans of one
    patient are not independent. None for fewer than two patients, or if a value is not finite.
    """
    sums: dict[str, NDArray[np.float64]] = defaultdict(lambda: np.zeros(2))
    for patient, value in zip(patients, values, strict=True):
        sums[patient] += (value, 1)
    if len(sums) < 2 or not np.isfinite(values).all():
        return None
    by_patient = np.array([sums[patient] for patient in sorted(sums)])
    generator, count = np.random.default_rng(_SEED), len(by_patient)
    rows = max(1, _DRAWN_AT_ONCE // count)
    totals = np.concatenate(
        [
            by_patient[generator.integers(count, size=(min(rows, RESAMPLES - start), count))].sum(axis=1)
            for start in range(0, RESAMPLES, rows)
        ]
    )
    low, high = np.quantile(totals[:, 0] / totals[:, 1], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


@dataclass(frozen=True)
class Group:
    """Dice statistics of a group of test cases with lesion."""

    name: str
    cases: int
    patients: int
    mean: float
    interval: Interval | None  # 95 % interval of the mean, over patients; None for a single patient
    median: float
    worst_decile: float  # mean of the worst tenth of the cases, at least one

    @classmethod
    def from_scores(cls, name: str, scores: Sequence[CaseScore]) -> "Group":
        """Summarize one or more cases."""
        patients, dices = [row.patient_id for row in scores], [row.dice for row in scores]
        return cls(
            name,
            cases=len(scores),
            patients=len(set(patients)),
            mean=fmean(dices),
            interval=mean_interval(patients, dices),
            median=median(dices),
            worst_decile=fmean(sorted(dices)[: math.ceil(len(dices) / 10)]),
        )


def group_scores(scores: Sequence[CaseScore], hard_cases: Collection[str] = ()) -> list[Group]:
    """Summarize the cases with lesion: all, all but the hard, and each site, intensity and third by lesion volume."""
    scores = with_lesion(scores)
    if not scores:
        return []
    groups = {"all test cases with lesion": scores}
    easy_scores = [row for row in scores if row.case_id not in hard_cases]
    hard_count = len(scores) - len(easy_scores)
    if easy_scores and hard_count:
        groups[f"without {hard_count} hard case{'s' if hard_count > 1 else ''}"] = easy_scores
    for key in ("site", "intensity"):
        for value in sorted({getattr(row, key) for row in scores}):
            groups[f"{key} {value}"] = [row for row in scores if getattr(row, key) == value]
    return [Group.from_scores(name, rows) for name, rows in [*groups.items(), *_lesion_volume_thirds(scores)]]


def slice_auc(has_lesion: NDArray[np.bool_], peak: NDArray[np.floating]) -> float | None:
    """Compute the probability that a slice with lesion has a higher peak than one without; ties count half.

    This is the area under the ROC curve, U / (n1 · n2) (Hanley and McNeil, 1982); None if all slices are of one kind.

    Args:
        has_lesion: (n,) bool.
        peak: (n,) highest lesion probability of each slice.
    """
    # float64: in float32 the rank sum of several thousand slices is inexact.
    positive, negative = peak[has_lesion].astype(np.float64), peak[~has_lesion].astype(np.float64)
    if not (len(positive) and len(negative)):
        return None
    return float(mannwhitneyu(positive, negative, method="asymptotic").statistic / (len(positive) * len(negative)))


@dataclass(frozen=True)
class Comparison:
    """A new model against the champion, paired by case, over the cases with lesion."""

    name: str  # of the champion
    problem: str | None = None  # why the champion has no scores, as a verb phrase
    unknown_cases: int = 0  # test cases the champion was not tested on and may have been trained on
    mean_change: float | None = None  # in Dice, positive where the new model is better; None fails the gate
    interval: Interval | None = None  # 95 % interval of the mean change, over patients

    @classmethod
    def from_scores(
        cls, scores: Sequence[GateCase], name: str, problem: str | None = None, unknown_cases: int = 0
    ) -> "Comparison":
        """Pair the scores of the new model with the champion's."""
        if problem is None and any(row.champion_dice is None or not math.isfinite(row.champion_dice) for row in scores):
            problem = "could not be scored on every test case"
        rows = with_lesion(scores)
        changes = [row.dice - row.champion_dice for row in rows if row.champion_dice is not None]
        if problem or not changes:
            return cls(name, problem, unknown_cases)
        interval = mean_interval([row.patient_id for row in rows], changes)
        return cls(name, None, unknown_cases, fmean(changes), interval)


def _lesion_volume_thirds(scores: Sequence[CaseScore]) -> Iterator[tuple[str, list[CaseScore]]]:
    """Split at least three cases into thirds by lesion volume."""
    if len(scores) < 3:
        return
    ordered = sorted(scores, key=lambda row: (row.lesion_ml, row.case_id))
    for name, part in zip(("least", "middle", "most"), np.array_split(np.arange(len(ordered)), 3), strict=True):
        rows = [ordered[index] for index in part]
        yield f"{name} lesion ({rows[0].lesion_ml:.3g} to {rows[-1].lesion_ml:.3g} mL)", rows
