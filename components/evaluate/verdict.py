"""The gate's decision as data: which rules held, for which model, on which scans. `export` obeys it."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components.evaluate.scores import CaseScore
from components.runtime.errors import InputError
from components.runtime.files import atomic_write

FILE = "verdict.json"
PASS, FAIL = "pass", "fail"


@dataclass(frozen=True)
class Rule:
    """One condition on one number. It fails closed: without a finite value and limit it does not hold.

    Attributes:
        name: short and stable, such as `mean_dice`.
        what: the number in words, such as "mean Dice over 10 test cases".
        value: the number, unrounded; None where there is nothing to compute it from.
        limit: what it is held against; equality is enough.
        at_least: whether the value must not be below the limit, or must not be above it.
    """

    name: str
    what: str
    value: float | None
    limit: float
    at_least: bool = True

    @property
    def margin(self) -> float | None:
        """How far the value is on the right side of the limit; negative on the wrong one, None if unknown."""
        if self.value is None or not (math.isfinite(self.value) and math.isfinite(self.limit)):
            return None
        return self.value - self.limit if self.at_least else self.limit - self.value

    @property
    def passed(self) -> bool:
        """Whether the rule holds."""
        return self.margin is not None and self.margin >= 0

    @property
    def reason(self) -> str:
        """The rule and how it came out, as a sentence's part."""
        needed = f"at {'least' if self.at_least else 'most'} {self.limit:g} is needed"
        if self.value is None or self.margin is None:
            return f"{self.what}: there is no finite number to judge by; {needed}"
        value, limit = _told_apart(self.value, self.limit)
        side = ("is at least" if self.at_least else "is at most") if self.passed else "misses"
        return f"{self.what} is {value}, which {side} the limit of {limit}"


@dataclass(frozen=True)
class JudgedCase:
    """A test case that the verdict rests on, and the digests of its files."""

    case_id: str
    sha256_scan: str
    sha256_mask: str
    dice: float


@dataclass(frozen=True)
class Verdict:
    """Whether one model may be exported.

    Attributes:
        rules: all that was asked of it.
        model_sha256: digest of the `model.keras` that was judged.
        threshold: the probability from which on a voxel counts as lesion; part of what was judged.
        test_dice: mean Dice of the test cases, 0 where there is none.
        cases: what it was judged on.
        not_applied: which rules did not apply, and why, in words.
    """

    rules: tuple[Rule, ...]
    model_sha256: str
    threshold: float
    test_dice: float
    cases: tuple[JudgedCase, ...]
    not_applied: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether there are cases and rules, and every rule holds."""
        return bool(self.cases and self.rules) and all(rule.passed for rule in self.rules)

    @property
    def verdict(self) -> str:
        """`pass` or `fail`."""
        return PASS if self.passed else FAIL

    @property
    def reasons(self) -> list[str]:
        """Why: the rules that do not hold, or, for a pass, all of them."""
        if not self.rules:
            return ["no rule was applied"]
        if not self.cases:
            return ["no test case was judged"]
        return [rule.reason for rule in self.rules if rule.passed == self.passed]

    @property
    def sentence(self) -> str:
        """The decision in one sentence, with the first rule that made it."""
        first, *others = self.reasons
        rules = "1 other rule" if len(others) == 1 else f"{len(others)} other rules"
        also = f" ({rules} {'met' if self.passed else 'missed'} as well)" if others else ""
        return f"{'Passed' if self.passed else 'Refused'}: {first}{also}."

    def write(self, folder: Path) -> None:
        """Write `verdict.json` into `folder`; a number that is not finite becomes null."""
        content = {
            "verdict": self.verdict,
            "reasons": self.reasons,
            "rules": [
                {
                    **asdict(rule),
                    "value": rule.value if rule.value is not None and math.isfinite(rule.value) else None,
                    "limit": rule.limit if math.isfinite(rule.limit) else None,
                    "margin": rule.margin,
                    "passed": rule.passed,
                }
                for rule in self.rules
            ],
            "model_sha256": self.model_sha256,
            "threshold": self.threshold,
            "test_dice": self.test_dice,
            "cases": [asdict(case) for case in self.cases],
            "not_applied": list(self.not_applied),
        }
        with atomic_write(folder / FILE) as temporary:
            temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def judge(
    rules: Sequence[Rule],
    scores: Sequence[CaseScore],
    model_sha256: str,
    threshold: float,
    not_applied: Sequence[str] = (),
) -> Verdict:
    """Bind rules to the model and the test cases they were computed from."""
    cases = tuple(JudgedCase(row.case_id, row.sha256_scan, row.sha256_mask, row.dice) for row in scores)
    test_dice = math.fsum(case.dice for case in cases) / len(cases) if cases else 0.0
    return Verdict(tuple(rules), model_sha256, threshold, test_dice, cases, tuple(not_applied))


def read_verdict(path: Path) -> Verdict:
    """Read `verdict.json`, and decide again by its rules.

    Raises:
        InputError: no such file, not a verdict, or one whose rules do not give what it states.
    """
    try:
        content = json.loads(path.read_text())
        verdict = _parsed(content)
        stated = content["verdict"]
    except OSError as error:
        raise InputError(f"{path}: no verdict ({error.strerror}); run the evaluate step first") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a verdict ({type(error).__name__}: {error}); run evaluate again") from error
    if stated != verdict.verdict:
        raise InputError(f"{path}: states {stated!r}, but its rules give {verdict.verdict!r}; run evaluate again")
    return verdict


def require_pass(path: Path, model_sha256: str) -> Verdict:
    """The passing verdict on the very model with this digest.

    Raises:
        InputError: there is none, it refuses the model, or it is about another one.
    """
    verdict = read_verdict(path)
    if not model_sha256 or verdict.model_sha256 != model_sha256:
        raise InputError(
            f"{path}: is about the model {verdict.model_sha256[:12]}…, not {model_sha256[:12]}…; "
            "evaluate the model that is to be exported"
        )
    if not verdict.passed:
        raise InputError(f"{path}: the gate refuses this model: {'; '.join(verdict.reasons)}")
    return verdict


def _parsed(content: dict[str, Any]) -> Verdict:
    rules = []
    for row in content["rules"]:
        value, limit = row["value"], row["limit"]
        value = None if value is None else float(value)
        limit = math.nan if limit is None else float(limit)
        if not isinstance(row["at_least"], bool):
            raise TypeError(f"at_least is {row['at_least']!r}")
        rules.append(Rule(str(row["name"]), str(row["what"]), value, limit, row["at_least"]))
    return Verdict(
        tuple(rules),
        str(content["model_sha256"]),
        float(content["threshold"]),
        float(content["test_dice"]),
        tuple(JudgedCase(**row) for row in content["cases"]),
        tuple(str(line) for line in content.get("not_applied", [])),
    )


def _told_apart(value: float, limit: float) -> tuple[str, str]:
    """Both numbers in four digits, or in as many as it takes to show that they differ."""
    short = f"{value:.4f}", f"{limit:g}"
    if float(short[0]) == float(short[1]) and value != limit:
        return repr(value), repr(limit)
    return short
