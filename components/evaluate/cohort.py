"""What the scores of single cases say of the cohort: center, tail, groups, and how sure one can be of them."""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np
from numpy.typing import NDArray

from components.evaluate.scores import CaseScore

RESAMPLES = 2000
CONFIDENCE = 0.95
_SEED = 0  # fixed, so that a verdict does not change when it is computed again


@dataclass(frozen=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Group:
    """The Dice of some of the test cases.

    Attributes:
        name: which cases, in words.
        cases: how many.
        patients: of how many patients.
        mean: mean Dice.
        interval: of the mean, over patients; None where there is none, as for one patient.
        median: median Dice.
        worst_decile: mean Dice of the worst tenth of the cases, at least one.
    """

    name: str
    cases: int
    patients: int
    mean: float
    interval: Interval | None
    median: float
    worst_decile: float

    @classmethod
    def of(cls, name: str, scores: Sequence[CaseScore]) -> "Group":
        """Sum up at least one case."""
        dices = sorted(row.dice for row in scores)
        return cls(
            name,
            len(scores),
            len({row.patient_id for row in scores}),
            fmean(dices),
            mean_interval([row.patient_id for row in scores], [row.dice for row in scores]),
            median(dices),
            fmean(dices[: math.ceil(len(dices) / 10)]),
        )


def groups(scores: Sequence[CaseScore], hard_cases: Collection[str] = ()) -> list[Group]:
    """Sum up all cases, those that are not named as hard, and each site, intensity and third by lesion volume."""
    found = [Group.of("all test cases", scores)] if scores else []
    easy = [row for row in scores if row.case_id not in hard_cases]
    if easy and len(easy) < len(scores):
        found.append(Group.of(f"without {len(scores) - len(easy)} named as hard", easy))
    for name in ("site", "intensity"):
        found += [Group.of(f"{name} {value}", rows) for value, rows in _by(scores, lambda row: getattr(row, name))]  # noqa: B023
    found += [Group.of(name, rows) for name, rows in _thirds(scores)]
    return found


def mean_interval(patients: Sequence[str], values: Sequence[float]) -> Interval | None:
    """The 95 % interval of a mean over cases, by bootstrap over patients (Efron, 1979; percentiles).

    Patients are drawn with all their scans, since two scans of one patient are no two findings.

    Args:
        patients: the patient of each case.
        values: one of each case.

    Returns:
        None for fewer than two patients, or with a value that is not finite: nothing can be said of these.
    """
    sums: dict[str, NDArray[np.float64]] = defaultdict(lambda: np.zeros(2))
    for patient, value in zip(patients, values, strict=True):
        sums[patient] += (value, 1)
    if len(sums) < 2 or not np.isfinite(values).all():
        return None
    each = np.array([sums[patient] for patient in sorted(sums)])
    draws = np.random.default_rng(_SEED).integers(len(each), size=(RESAMPLES, len(each)))
    totals = each[draws].sum(axis=1)
    low, high = np.quantile(totals[:, 0] / totals[:, 1], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


def _thirds(scores: Sequence[CaseScore]) -> list[tuple[str, list[CaseScore]]]:
    """Cases with little, middling and much lesion; nothing for fewer than three."""
    if len(scores) < 3:
        return []
    ordered = sorted(scores, key=lambda row: (row.lesion_ml, row.case_id))
    parts = np.array_split(np.arange(len(ordered)), 3)
    return [
        (
            f"{name} lesion ({ordered[part[0]].lesion_ml:.3g} to {ordered[part[-1]].lesion_ml:.3g} mL)",
            [ordered[index] for index in part],
        )
        for name, part in zip(("least", "middling", "most"), parts, strict=True)
    ]


def _by(scores: Sequence[CaseScore], key: Callable[[CaseScore], str]) -> list[tuple[str, list[CaseScore]]]:
    found: dict[str, list[CaseScore]] = defaultdict(list)
    for row in scores:
        found[key(row)].append(row)
    return sorted(found.items())
