"""What is asked of a model before anybody deploys it."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from components.ct.errors import InputError
from components.evaluate.scores import CaseScore
from components.evaluate.verdict import Rule


@dataclass(frozen=True)
class Limits:
    """The gate's parameters.

    Attributes:
        min_dice: least mean Dice of the test cases, 0 to 1.
    """

    min_dice: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what no Dice can be held against."""
        if not 0 <= self.min_dice <= 1:
            raise InputError(f"min_dice is {self.min_dice}; expected a number from 0 to 1, such as 0.5")


def gate_rules(scores: Sequence[CaseScore], limits: Limits) -> list[Rule]:
    """Hold the test cases' scores against the limits."""
    mean = fmean(row.dice for row in scores) if scores else None
    cases = "1 test case" if len(scores) == 1 else f"{len(scores)} test cases"
    return [Rule("mean_dice", f"mean Dice over {cases}", mean, limits.min_dice)]
