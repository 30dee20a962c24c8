"""The gate's verdict as data: rules with values and limits, the judged model, and the scans it was tested on."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from components.evaluate.scores import CaseScore
from components.runtime.errors import InputError
from components.runtime.files import atomic_write
from serving.versions.layout import VERDICT_FILE


@dataclass(frozen=True)
class Rule:
    """A condition on one number. It fails closed: it does not hold without a finite value and limit."""

    name: str  # stable, such as "mean_dice"
    what: str  # description of the number, such as "mean Dice over 10 test cases"
    value: float | None  # unrounded; None if it cannot be computed
    limit: float  # a value equal to it passes
    at_least: bool = True  # whether the limit is a lower bound

    @property
    def margin(self) -> float | None:
        """Distance of the value from the limit, negative if the rule fails; None without finite numbers."""
        if self.value is None or not (math.isfinite(self.value) and math.isfinite(self.limit)):
            return None
        return self.value - self.limit if self.at_least else self.limit - self.value

    @property
    def passed(self) -> bool:
        """Whether the rule holds."""
        return self.margin is not None and self.margin >= 0

    @property
    def reason(self) -> str:
        """The rule and its outcome as a clause."""
        if self.value is None or self.margin is None:
            bound = "at least" if self.at_least else "at most"
            return f"{self.what}: no finite value; expected {bound} {self.limit:g}"
        value, limit = _distinct_digits(self.value, self.limit)
        if self.passed:
            return f"{self.what} is {value}, which meets the limit of {limit}"
        return f"{self.what} is {value}, {'below' if self.at_least else 'above'} the limit of {limit}"


@dataclass(frozen=True)
class AppliedRules:
    """The rules that apply, and remarks on those that do not."""

    rules: list[Rule] = field(default_factory=list)
    not_applied: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class VerdictCase:
    """A test case behind the verdict, with the digests of its files."""

    case_id: str
    sha256_scan: str
    sha256_mask: str
    dice: float


@dataclass(frozen=True)
class Verdict:
    """Whether a model may be exported."""

    rules: tuple[Rule, ...]
    model_sha256: str  # of the judged `model.keras`
    threshold: float  # probability from which a voxel counts as lesion
    test_dice: float  # mean Dice of the test cases, 0 without any
    cases: tuple[VerdictCase, ...]
    not_applied: tuple[str, ...] = ()  # remarks, such as why a rule was not applied

    @property
    def passed(self) -> bool:
        """Whether there are cases and rules, and every rule holds."""
        return bool(self.cases and self.rules) and all(rule.passed for rule in self.rules)

    @property
    def verdict(self) -> Literal["pass", "fail"]:
        """The verdict as `verdict.json` and the pipeline spell it."""
        return "pass" if self.passed else "fail"

    @property
    def reasons(self) -> list[str]:
        """The rules that fail; for a pass, all rules."""
        if not self.rules:
            return ["no rule was applied"]
        if not self.cases:
            return ["no test case was judged"]
        return [rule.reason for rule in self.rules if rule.passed == self.passed]

    @property
    def sentence(self) -> str:
        """The verdict in one sentence, with the first of its reasons."""
        first, *others = self.reasons
        rules = "1 other rule" if len(others) == 1 else f"{len(others)} other rules"
        also = f" ({rules} also {'met' if self.passed else 'failed'})" if others else ""
        return f"{'Passed' if self.passed else 'Refused'}: {first}{also}."

    def write(self, folder: Path) -> None:
        """Write `verdict.json` into `folder`; numbers that are not finite become null."""
        rules = [
            {
                **asdict(rule),
                "value": rule.value if rule.value is not None and math.isfinite(rule.value) else None,
                "limit": rule.limit if math.isfinite(rule.limit) else None,
                "margin": rule.margin,
                "passed": rule.passed,
            }
            for rule in self.rules
        ]
        content = {"verdict": self.verdict, "reasons": self.reasons, **asdict(self), "rules": rules}
        with atomic_write(folder / VERDICT_FILE) as temporary:
            temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def build_verdict(gate: AppliedRules, scores: Sequence[CaseScore], *, model_sha256: str, threshold: float) -> Verdict:
    """Bind rules to the model and the test cases they were computed from."""
    cases = tuple(VerdictCase(row.case_id, row.sha256_scan, row.sha256_mask, row.dice) for row in scores)
    test_dice = math.fsum(case.dice for case in cases) / len(cases) if cases else 0.0
    return Verdict(tuple(gate.rules), model_sha256, threshold, test_dice, cases, tuple(gate.not_applied))


def read_verdict(path: Path) -> Verdict:
    """Read `verdict.json` and apply its rules again.

    Raises:
        InputError: the file is missing or malformed, or its rules contradict the verdict it states.
    """
    try:
        content = json.loads(path.read_text())
        verdict = _parse(content)
        recorded = content["verdict"]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); run the evaluate step first") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a verdict ({type(error).__name__}: {error}); run evaluate again") from error
    if recorded != verdict.verdict:
        raise InputError(f"{path}: states {recorded!r}, but its rules give {verdict.verdict!r}; run evaluate again")
    return verdict


def require_pass(path: Path, model_sha256: str) -> Verdict:
    """Read the verdict and require that it passes the model with this digest.

    Raises:
        InputError: there is no valid verdict, it is on another model, or it refuses this one.
    """
    verdict = read_verdict(path)
    if not model_sha256 or verdict.model_sha256 != model_sha256:
        raise InputError(
            f"{path}: verdict on model {verdict.model_sha256[:12]}…; expected {model_sha256[:12]}…; "
            "evaluate the model to be exported"
        )
    if not verdict.passed:
        raise InputError(f"{path}: the gate refuses this model: {'; '.join(verdict.reasons)}")
    return verdict


def _parse(content: dict[str, Any]) -> Verdict:
    rules = []
    for row in content["rules"]:
        value = None if row["value"] is None else float(row["value"])
        limit = math.nan if row["limit"] is None else float(row["limit"])
        if not isinstance(row["at_least"], bool):
            raise TypeError(f"at_least is {row['at_least']!r}")
        rules.append(Rule(str(row["name"]), str(row["what"]), value, limit, row["at_least"]))
    return Verdict(
        tuple(rules),
        str(content["model_sha256"]),
        float(content["threshold"]),
        float(content["test_dice"]),
        tuple(VerdictCase(**row) for row in content["cases"]),
        tuple(str(line) for line in content.get("not_applied", [])),
    )


def _distinct_digits(value: float, limit: float) -> tuple[str, str]:
    """Format both with four digits, or with all digits where four would hide a difference."""
    short = f"{value:.4f}", f"{limit:g}"
    if float(short[0]) == float(short[1]) and value != limit:
        return repr(value), repr(limit)
    return short
