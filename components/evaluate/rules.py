"""What is asked of a model before it may be served, as data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from components.evaluate.champion import Comparison
from components.evaluate.cohort import mean_interval
from components.evaluate.scores import CaseScore
from components.evaluate.verdict import Rule
from components.runtime.errors import InputError

TRIVIAL_ML = 0.5  # below this much lesion a few voxels decide the Dice; radiopaedia_29_86490_1 has 0.46 mL


@dataclass(frozen=True)
class Limits:
    """The gate's parameters. A least Dice of 0 asks for nothing, and its rule is left out.

    Attributes:
        min_dice: least mean Dice of the test cases, 0 to 1.
        min_dice_ci: least lower end of the 95 % interval of that mean.
        min_case_dice: least Dice of the worst case that is not trivial: 0.5 mL of lesion or more, not named as hard.
        min_site_dice: least mean Dice of each site.
        max_false_positive_ml: most volume that may be marked in a scan without lesion. The default is 1 % of
            a pair of lungs of 5 L.
        max_regression: how far the mean Dice may fall below that of the served version, on the same cases.
        hard_cases: ids of cases with which and without which the mean is reported.
    """

    min_dice: float = 0.5
    min_dice_ci: float = 0.0
    min_case_dice: float = 0.0
    min_site_dice: float = 0.0
    max_false_positive_ml: float = 50.0
    max_regression: float = 0.02
    hard_cases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no Dice, or no volume, can be held against."""
        for name in ("min_dice", "min_dice_ci", "min_case_dice", "min_site_dice", "max_regression"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected a number from 0 to 1, such as 0.5")
        if not 0 <= self.max_false_positive_ml < float("inf"):
            raise InputError(
                f"max_false_positive_ml is {self.max_false_positive_ml}; expected a volume in mL, such as 50"
            )


@dataclass(frozen=True)
class GateRules:
    """The rules that apply, and in words those that do not and why."""

    rules: list[Rule]
    not_applied: list[str]


def gate_rules(scores: Sequence[CaseScore], limits: Limits, comparison: Comparison | None = None) -> GateRules:
    """Hold the test cases' scores against the limits.

    Args:
        scores: of the test cases.
        limits: what is asked.
        comparison: with the served version; None where no version is served yet.
    """
    asked = GateRules([_mean("mean_dice", "mean Dice over {}", scores, limits.min_dice)], [])
    if limits.min_dice_ci:
        asked.rules.append(_interval(scores, limits.min_dice_ci))
    if limits.min_case_dice:
        asked.rules.append(_worst(scores, limits))
    if limits.min_site_dice:
        for site in sorted({row.site for row in scores}):
            rows = [row for row in scores if row.site == site]
            name, what = f"mean_dice of {site}", f"mean Dice of {site} over {{}}"
            asked.rules.append(_mean(name, what, rows, limits.min_site_dice))
    _false_positives(asked, scores, limits)
    _champion(asked, limits, comparison)
    return asked


def _mean(name: str, what: str, scores: Sequence[CaseScore], limit: float) -> Rule:
    value = fmean(row.dice for row in scores) if scores else None
    return Rule(name, what.format(_counted(len(scores), "test case")), value, limit)


def _interval(scores: Sequence[CaseScore], limit: float) -> Rule:
    interval = mean_interval([row.patient_id for row in scores], [row.dice for row in scores])
    patients = _counted(len({row.patient_id for row in scores}), "patient")
    what = f"lower end of the 95 % interval of the mean Dice over {patients}"
    return Rule("mean_dice_low", what, interval.low if interval else None, limit)


def _worst(scores: Sequence[CaseScore], limits: Limits) -> Rule:
    rows = [row for row in scores if row.lesion_ml >= TRIVIAL_ML and row.case_id not in limits.hard_cases]
    # A Dice that is no number is the worst there is: the rule must meet it, and fail.
    worst = min(rows, key=lambda row: (not math.isnan(row.dice), row.dice), default=None)
    what = f"Dice of the worst case ({worst.case_id})" if worst else "Dice of the worst case that is not trivial"
    return Rule("worst_case_dice", what, worst.dice if worst else None, limits.min_case_dice)


def _false_positives(asked: GateRules, scores: Sequence[CaseScore], limits: Limits) -> None:
    healthy = [row.predicted_ml for row in scores if row.lesion_ml == 0]
    if not healthy:
        asked.not_applied.append("no test case is without lesion, so volume marked in healthy lungs was not judged")
        return
    what = f"largest volume in mL marked in {_counted(len(healthy), 'scan')} without lesion"
    limit = limits.max_false_positive_ml
    asked.rules.append(Rule("false_positive_ml", what, float(np.max(healthy)), limit, at_least=False))


def _champion(asked: GateRules, limits: Limits, comparison: Comparison | None) -> None:
    if comparison is None:
        asked.not_applied.append("no version is served yet, so there is none to compare with")
        return
    name = comparison.name
    what = f"change of the mean Dice on the same cases against {name}{comparison.problem}"
    asked.rules.append(Rule("champion", what, comparison.mean_change, -limits.max_regression))
    if comparison.unknown_cases:
        asked.not_applied.append(
            f"{_counted(comparison.unknown_cases, 'test case')} may have been among those {name} was trained on, "
            "which favors it"
        )


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
