"""The gate's verdict as data: the scores and limits it rests on, from which everything else follows."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from components.evaluate.cohort import Comparison
from components.evaluate.limits import GateLimits
from components.evaluate.rules import AppliedRules, Rule, apply_rules
from components.evaluate.scores import GateCase, with_lesion
from components.runtime.errors import InputError
from components.runtime.files import atomic_write
from components.runtime.json_file import read_json
from serving.versions.layout import VERDICT_FILE


@dataclass(frozen=True)
class Verdict:
    """Whether a model may be exported. The fields are what the gate judged by; all properties follow from them."""

    model_sha256: str  # of the judged `model.keras`
    threshold: float  # probability from which a voxel counts as lesion
    limits: GateLimits
    cases: tuple[GateCase, ...]  # the test cases, with numbers in place of patient ids
    comparison: Comparison | None = None  # None for a first model
    model_card_sha256: str = ""  # of the card, which shows the verdict and is written before `verdict.json`

    @cached_property
    def _applied(self) -> AppliedRules:
        return apply_rules(self.cases, self.limits, self.comparison)

    @property
    def rules(self) -> list[Rule]:
        """The rules that apply."""
        return self._applied.rules

    @property
    def not_applied(self) -> list[str]:
        """Remarks, such as why a rule was not applied."""
        return self._applied.not_applied

    @property
    def test_dice(self) -> float:
        """Mean Dice of the test cases with lesion; 0 without any, or without a finite mean."""
        value = self.rules[0].value
        return value if value is not None and math.isfinite(value) else 0.0

    @property
    def passed(self) -> bool:
        """Whether every rule holds; the first one, on the mean Dice, fails without a case with lesion."""
        return all(rule.passed for rule in self.rules)

    @property
    def verdict(self) -> Literal["pass", "fail"]:
        """The verdict as `verdict.json` and the pipeline spell it."""
        return "pass" if self.passed else "fail"

    @property
    def reasons(self) -> list[str]:
        """The rules that fail; for a pass, all rules."""
        reasons = [rule.reason for rule in self.rules if rule.passed == self.passed]
        if with_lesion(self.cases):
            return reasons
        return [f"no test case of {len(self.cases)} has lesion, so the model cannot be judged", *reasons]

    @property
    def sentence(self) -> str:
        """The verdict in one sentence, with the first of its reasons."""
        first, *others = self.reasons
        rules = "1 other rule" if len(others) == 1 else f"{len(others)} other rules"
        also = f" ({rules} also {'met' if self.passed else 'failed'})" if others else ""
        return f"{'Passed' if self.passed else 'Refused'}: {first}{also}."

    @property
    def text(self) -> str:
        """The content of `verdict.json`; numbers that are not finite become null."""
        rules = [{**asdict(rule), "margin": rule.margin, "passed": rule.passed} for rule in self.rules]
        summary = {"verdict": self.verdict, "reasons": self.reasons, "test_dice": self.test_dice, "rules": rules}
        content = {**summary, "not_applied": self.not_applied, **asdict(self)}
        return json.dumps(_nullify(content), indent=2, allow_nan=False) + "\n"

    @property
    def sha256(self) -> str:
        """Digest of `verdict.json`, by which export recognizes it."""
        return sha256(self.text.encode()).hexdigest()

    def write(self, folder: Path) -> None:
        """Write `verdict.json` into `folder`."""
        with atomic_write(folder / VERDICT_FILE) as temporary:
            temporary.write_text(self.text)


def judge(
    scores: Sequence[GateCase],
    limits: GateLimits,
    comparison: Comparison | None = None,
    *,
    model_sha256: str,
    threshold: float,
) -> Verdict:
    """Apply the gate to the test cases' scores. An exported version has the verdict, so it names no patient."""
    numbers = {patient: f"{number:06}" for number, patient in enumerate(sorted({row.patient_id for row in scores}), 1)}
    names = [field.name for field in fields(GateCase)]
    cases = tuple(
        GateCase(**{name: getattr(row, name) for name in names} | {"patient_id": numbers[row.patient_id]})
        for row in scores
    )
    return Verdict(model_sha256, threshold, limits, cases, comparison)


def read_verdict(path: Path) -> Verdict:
    """Read `verdict.json` and judge its scores by its limits again.

    Raises:
        InputError: the file is missing or malformed, or states anything that does not follow from its scores.
    """

    def judge_again(content: dict[str, Any]) -> tuple[Verdict, list[str]]:
        verdict = _parse(content)
        expected = json.loads(verdict.text)
        names = expected.keys() | content.keys()
        return verdict, sorted(name for name in names if expected.get(name) != content.get(name))

    verdict, edited = read_json(path, judge_again, "a verdict; run evaluate again")
    if edited:
        raise InputError(
            f"{path}: {', '.join(edited)}: not what its scores and limits give ({verdict.verdict}); expected the file "
            "as evaluate wrote it; run evaluate again"
        )
    return verdict


def require_pass(path: Path, *, model_sha256: str, verdict_sha256: str) -> Verdict:
    """Read the verdict and require that it passes the model.

    Args:
        path: the `verdict.json` of evaluate.
        model_sha256: digest of the model to export.
        verdict_sha256: digest of the file when evaluate wrote it.

    Raises:
        InputError: there is no valid verdict, it was edited, it is on another model, or it refuses this one.
    """
    verdict = read_verdict(path)
    if verdict.model_sha256 != model_sha256:
        raise InputError(
            f"{path}: verdict on model {verdict.model_sha256[:12]}…; expected {model_sha256[:12]}…; "
            "evaluate the model to be exported"
        )
    if not verdict.passed:
        raise InputError(f"{path}: the gate refuses this model: {'; '.join(verdict.reasons)}")
    if sha256(path.read_bytes()).hexdigest() != verdict_sha256:
        raise InputError(
            f"{path}: has another SHA-256 than evaluate returned ({verdict_sha256[:12]}…): it was edited or is of "
            "another evaluation; run evaluate again"
        )
    return verdict


def _parse(content: dict[str, Any]) -> Verdict:
    """Build the verdict from its fields; the caller compares the rest."""
    threshold, limits, comparison = content["threshold"], content["limits"], content["comparison"]
    if not 0 < threshold < 1:
        raise ValueError(f"threshold is {threshold}; expected a number between 0 and 1")
    volumes_and_dice = ("lesion_ml", "predicted_ml", "dice")
    cases = tuple(
        GateCase(**{**row, **{name: math.nan for name in volumes_and_dice if row[name] is None}})
        for row in content["cases"]
    )
    if comparison is not None:
        champion = {name: comparison[name] for name in ("name", "problem", "unknown_cases")}
        comparison = Comparison.from_scores(cases, **champion)
    limits = GateLimits(**{**limits, "hard_cases": tuple(limits["hard_cases"])})
    digests = str(content["model_sha256"]), str(content["model_card_sha256"])
    return Verdict(digests[0], threshold, limits, cases, comparison, digests[1])


def _nullify(value: Any) -> Any:
    """Replace numbers that are not finite, at any depth, by None."""
    if isinstance(value, dict):
        return {name: _nullify(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_nullify(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
