"""The gate: the rules a model must meet before it is exported."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np

from components.evaluate.champion import REMEDY
from components.evaluate.cohort import Comparison, mean_interval
from components.evaluate.limits import GateLimits
from components.evaluate.scores import GateCase, with_lesion

_DECIMALS = 9  # compared: 0.90 - 0.92 is -0.020000000000000018; voxel counts resolve a Dice to six or seven
TRIVIAL_ML = 0.5  # below this lesion volume a few voxels decide the Dice; radiopaedia_29_86490_1 has 0.46 mL


@dataclass(frozen=True)
class Rule:
    """A condition on one number. It fails closed: it does not hold without a finite value and limit."""

    name: str  # stable, such as "mean_dice"
    what: str  # description of the number, such as "mean Dice over 10 test cases with lesion"
    value: float | None  # None if it cannot be computed
    limit: float  # a value equal to it passes
    at_least: bool = True  # whether the limit is a lower bound

    @property
    def _numbers(self) -> tuple[float, float] | None:
        """Value and limit without the error of floating-point sums; None without finite numbers."""
        if self.value is None or not (math.isfinite(self.value) and math.isfinite(self.limit)):
            return None
        return round(self.value, _DECIMALS), round(self.limit, _DECIMALS)

    @property
    def margin(self) -> float | None:
        """Distance of the value from the limit, negative if the rule fails; None without finite numbers."""
        if self._numbers is None:
            return None
        value, limit = self._numbers
        return value - limit if self.at_least else limit - value

    @property
    def passed(self) -> bool:
        """Whether the rule holds."""
        return self.margin is not None and self.margin >= 0

    @property
    def digits(self) -> tuple[str, str]:
        """Value and limit as text: rounded, or with all digits where rounding would change their order."""
        if self._numbers is None:
            return "none", f"{self.limit:g}"
        value, limit = self._numbers
        short = f"{value:.4f}", f"{limit:g}"
        if np.sign(float(short[0]) - float(short[1])) != np.sign(value - limit):
            return repr(value), repr(limit)
        return short

    @property
    def reason(self) -> str:
        """The rule and its outcome as a clause."""
        value, limit = self.digits
        if self.margin is None:
            return f"{self.what}: no finite value; expected {'at least' if self.at_least else 'at most'} {limit}"
        if self.passed:
            return f"{self.what} is {value}, which meets the limit of {limit}"
        return f"{self.what} is {value}, {'below' if self.at_least else 'above'} the limit of {limit}"


@dataclass(frozen=True)
class AppliedRules:
    """The rules that apply, and remarks on those that do not."""

    rules: list[Rule] = field(default_factory=list)
    not_applied: list[str] = field(default_factory=list)


def apply_rules(scores: Sequence[GateCase], limits: GateLimits, comparison: Comparison | None = None) -> AppliedRules:
    """Compare the test cases' scores with the limits; `comparison` is None for a first model.

    Rules on Dice count the cases with lesion. Cases without are judged by the volume predicted in them.
    """
    gate, rows = AppliedRules(), with_lesion(scores)
    gate.rules.append(_mean("mean_dice", "mean Dice over {}", rows, limits.min_dice))
    gate.rules.extend(_impossible_volumes(scores))
    if limits.min_dice_ci:
        gate.rules.append(_interval(rows, limits.min_dice_ci))
    if limits.min_case_dice:
        gate.rules.append(_worst_case(rows, limits))
    if limits.min_site_dice:
        _add_sites(gate, scores, limits)
    _add_false_positives(gate, scores, limits)
    _add_champion(gate, limits, comparison)
    return gate


def _mean(name: str, what: str, rows: Sequence[GateCase], limit: float) -> Rule:
    value = fmean(row.dice for row in rows) if rows else None
    return Rule(name, what.format(f"{_count(len(rows), 'test case')} with lesion"), value, limit)


def _impossible_volumes(scores: Sequence[GateCase]) -> Iterator[Rule]:
    """Yield a rule that fails for each volume that no scan has: below 0, infinite, or not a number."""
    for row in scores:
        for name, volume_ml in (("lesion_ml", row.lesion_ml), ("predicted_ml", row.predicted_ml)):
            if not 0 <= volume_ml < math.inf:
                value = volume_ml if round(volume_ml, _DECIMALS) else None  # rounding must not hide it
                yield Rule(f"{name} of {row.case_id}", f"{name} of {row.case_id}", value, 0.0)


def _interval(rows: Sequence[GateCase], limit: float) -> Rule:
    patients = [row.patient_id for row in rows]
    interval = mean_interval(patients, [row.dice for row in rows])
    what = f"lower end of the 95 % interval of the mean Dice over {_count(len(set(patients)), 'patient')} with lesion"
    return Rule("mean_dice_low", what, interval.low if interval else None, limit)


def _worst_case(rows: Sequence[GateCase], limits: GateLimits) -> Rule:
    rows = [row for row in rows if not row.lesion_ml < TRIVIAL_ML and row.case_id not in limits.hard_cases]
    # NaN sorts first: it must reach the rule and fail it.
    worst = min(rows, key=lambda row: (not math.isnan(row.dice), row.dice), default=None)
    what = f"Dice of the worst case ({worst.case_id})" if worst else f"Dice of the worst case from {TRIVIAL_ML} mL"
    return Rule("worst_case_dice", what, worst.dice if worst else None, limits.min_case_dice)


def _add_sites(gate: AppliedRules, scores: Sequence[GateCase], limits: GateLimits) -> None:
    for site in sorted({row.site for row in scores}):
        rows = with_lesion([row for row in scores if row.site == site])
        if rows:
            gate.rules.append(
                _mean(f"mean_dice of {site}", f"mean Dice of {site} over {{}}", rows, limits.min_site_dice)
            )
        else:
            gate.not_applied.append(f"no test scan of {site} has lesion, so its mean Dice was not judged")


def _add_false_positives(gate: AppliedRules, scores: Sequence[GateCase], limits: GateLimits) -> None:
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
    problem = f", which {comparison.problem} ({REMEDY})" if comparison.problem else ""
    what = f"change of the mean Dice on the same cases against {name}{problem}"
    gate.rules.append(Rule("champion", what, comparison.mean_change, -limits.max_regression))
    if comparison.unknown_cases:
        cases = _count(comparison.unknown_cases, "test case")
        gate.not_applied.append(f"{name} may have been trained on {cases}, which favors it in the comparison")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
