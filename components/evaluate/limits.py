"""The limits of the gate's rules, without the libraries that apply them."""

from dataclasses import dataclass

from components.runtime.errors import InputError
from components.runtime.numbers import is_number

_MAX_ML = 1e6


@dataclass(frozen=True, kw_only=True)
class GateLimits:
    """The gate's parameters. 0 disables `min_dice_ci`, `min_case_dice` and `min_site_dice`."""

    min_dice: float = 0.5  # minimum mean Dice of the test cases with lesion, 0 to 1
    min_dice_ci: float = 0.0  # minimum lower end of the 95 % interval of that mean
    min_case_dice: float = 0.0  # minimum Dice of the worst case from `TRIVIAL_ML` that is not a hard case
    min_site_dice: float = 0.0  # minimum mean Dice of each site
    max_false_positive_ml: float = 50.0  # maximum volume predicted in a scan without lesion: 1 % of 5 L of lungs
    max_regression: float = 0.02  # maximum drop of the mean Dice below the served version's, on the same cases
    hard_cases: tuple[str, ...] = ()  # ids of known hard cases; the mean is reported with and without them

    def __post_init__(self) -> None:
        """Check the ranges, and raise one `InputError` with every finding."""
        problems = [
            f"{name} is {getattr(self, name)}; expected a number from 0 to 1, such as 0.5"
            for name in ("min_dice", "min_dice_ci", "min_case_dice", "min_site_dice", "max_regression")
            if not is_number(getattr(self, name), 0, 1)
        ]
        if not is_number(self.max_false_positive_ml, 0, _MAX_ML):
            problems.append(f"max_false_positive_ml is {self.max_false_positive_ml}; expected mL, such as 50")
        if problems:
            raise InputError(*problems)
