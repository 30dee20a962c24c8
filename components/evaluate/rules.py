"""The gate: the rules a model must meet before it is exported, and their limits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from components.evaluate.cohort import Comparison, mean_interval
from components.evaluate.scores import CaseScore
from components.evaluate.verdict import AppliedRules, Rule
from components.runtime.errors import InputError

TRIVIAL_ML = 0.5  # below this lesion volume a few voxels decide the Dice; radiopaedia_29_86490_1 has 0.46 mL


@dataclass(frozen=True, kw_only=True)
class GateLimits:
    """The gate's parameters. 0 disables `min_dice_ci`, `min_case_dice` and `min_site_dice`."""

    min_dice: float = 0.5  # minimum mean Dice of the test cases, 0 to 1
    min_dice_ci: float = 0.0  # minimum lower end of the 95 % interval of that mean
    min_case_dice: float = 0.0  # minimum Dice of the worst case from `TRIVIAL_ML` that is not a hard case
    min_site_dice: float = 0.0  # minimum mean Dice of each site
    max_false_positive_ml: float = 50.0  # maximum volume predicted in a scan without lesion: 1 % of 5 L of lungs
    max_regression: float = 0.02  # maximum drop of the mean Dice below the served version's, on the same cases
    hard_cases: tuple[str, ...] = ()  # ids of known hard cases; the mean is reported with and without them

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("min_dice", "min_dice_ci", "min_case_dice", "min_site_dice", "max_regression"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected a number from 0 to 1, such as 0.5")
        if not 0 <= self.max_false_positive_ml < math.inf:
            raise InputError(f"max_false_positive_ml is {self.max_false_positive_ml}; expected mL, such as 50")


def apply_rules(scores: Sequence[CaseScore], limits: GateLimits, comparison: Comparison | None = None) -> AppliedRules:
    """Compare the test cases' scores with the limits; `comparison` is None for a first model."""
    gate = AppliedRules()
    gate.rules.append(_mean("mean_dice", "mean Dice over {}", scores, limits.min_dice))
    if limits.min_dice_ci:
        gate.rules.append(_interval(scores, limits.min_dice_ci))
    if limits.min_case_dice:
        gate.rules.append(_worst_case(scores, limits))
    if limits.min_site_dice:
        for site in sorted({row.site for row in scores}):
            rows = [row for row in scores if row.site == site]
            name, what = f"mean_dice of {site}", f"mean Dice of {site} over {{}}"
            gate.rules.append(_mean(name, what, rows, limits.min_site_dice))
    _add_false_positives(gate, scores, limits)
    _add_champion(gate, limits, comparison)
    return gate


def _mean(name: str, what: str, scores: Sequence[CaseScore], limit: float) -> Rule:
    value = fmean(row.dice for row in scores) if scores else None
    return Rule(name, what.format(_count(len(scores), "test case")), value, limit)


def _interval(scores: Sequence[CaseScore], limit: float) -> Rule:
    patients = [row.patient_id for row in scores]
    interval = mean_interval(patients, [row.dice for row in scores])
    what = f"lower end of the 95 % interval of the mean Dice over {_count(len(set(patients)), 'patient')}"
    return Rule("mean_dice_low", what, interval.low if interval else None, limit)


def _worst_case(scores: Sequence[CaseScore], limits: GateLimits) -> Rule:
    rows = [row for row in scores if row.lesion_ml >= TRIVIAL_ML and row.case_id not in limits.hard_cases]
    # NaN sorts first: it must reach the rule and fail it.
    worst = min(rows, key=lambda row: (not math.isnan(row.dice), row.dice), default=None)
    what = f"Dice of the worst case ({worst.case_id})" if worst else f"Dice of the worst case from {TRIVIAL_ML} mL"
    return Rule("worst_case_dice", what, worst.dice if worst else None, limits.min_case_dice)


def _add_false_positives(gate: AppliedRules, scores: Sequence[CaseScore], limits: GateLimits) -> None:
    healthy = [row.predicted_ml for row in scores if row.lesion_ml == 0]
    if not healthy:
        gate.not_applied.append("every test scan has lesion, so false positives in healthy lungs were not judged")
        return
    what = f"largest volume in mL predicted in {_count(len(healthy), 'scan')} without lesion"
    limit = limits.max_false_positive_ml
    gate.rules.append(Rule("false_positive_ml", what, float(np.max(healthy)), limit, at_least=False))


def _add_champion(gate: AppliedRules, limits: GateLimits, comparison: Comparison | None) -> None:
    if comparison is None:
        gate.not_applied.append("no version is served yet, so the model was not compared with one")
        return
    name = comparison.name
    problem = f", which {comparison.problem}" if comparison.problem else ""
    what = f"change of the mean Dice on the same cases against {name}{problem}"
    gate.rules.append(Rule("champion", what, comparison.mean_change, -limits.max_regression))
    if comparison.unknown_cases:
        cases = _count(comparison.unknown_cases, "test case")
        gate.not_applied.append(f"{name} may have been trained on {cases}, which favors it in the comparison")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
