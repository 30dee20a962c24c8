"""The findings of a validation, and the outcome they determine."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean

from components.validate.profile import HU_DISTRIBUTION, Drift
from components.validate.resize_audit import ResizeAudit

_MAX_CASES = _MAX_FINDINGS = 10  # in one line


class Severity(StrEnum):
    """A critical finding excludes a case or the cohort from training; a warning does not."""

    CRITICAL = "critical"
    WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    """An expectation that a case, or the cohort as a whole, does not meet."""

    severity: Severity
    case_id: str | None  # None for the cohort
    fact: str  # column of the fact table
    message: str  # the value and the expectation
    remedy: str  # advice to the user

    @property
    def is_critical(self) -> bool:
        """Whether it excludes the case, or the cohort, from training."""
        return self.severity is Severity.CRITICAL


@dataclass(frozen=True)
class Outcome:
    """The outcome of a validation."""

    accepted_ids: list[str]  # ids of the cases to train on; empty if the cohort is refused
    dropped_ids: list[str]  # ids of the cases with critical findings
    findings: list[Finding]
    refusal: str | None  # why the cohort is refused, in one line
    drifts: list[Drift]  # empty without a reference profile
    audits: list[ResizeAudit]  # of each case with a lesion

    @property
    def critical(self) -> list[Finding]:
        """The critical findings."""
        return [finding for finding in self.findings if finding.is_critical]

    def skipped(self) -> list[str]:
        """A line for each case that is left out of an accepted cohort, with its critical findings."""
        findings_of: dict[str, list[Finding]] = {}
        for finding in self.critical if self.refusal is None else []:
            findings_of.setdefault(finding.case_id or "", []).append(finding)
        return [join_findings(findings_of[case_id]) for case_id in sorted(findings_of) if case_id]

    def summary(self) -> dict[str, float]:
        """Finite metrics for the comparison of runs."""
        numbers: dict[str, float] = {
            "cases_accepted": len(self.accepted_ids),
            "cases_dropped": len(self.dropped_ids),
            "critical_findings": len(self.critical),
            "warnings": len(self.findings) - len(self.critical),
        }
        if self.audits:
            numbers["resize_round_trip_dice"] = fmean(audit.round_trip_dice for audit in self.audits)
            numbers["resize_lesions_lost"] = sum(audit.lesions_lost for audit in self.audits)
        if self.drifts:
            values = {drift.fact: drift.value for drift in self.drifts}
            if HU_DISTRIBUTION in values:
                numbers["hu_stability_index"] = values[HU_DISTRIBUTION]
            numbers["drifted_facts"] = sum(drift.exceeds_limit for drift in self.drifts)
        return {name: float(value) for name, value in numbers.items()}


def join_findings(findings: Sequence[Finding]) -> str:
    """Join findings into one line: cases with the same message together, at most ten cases and ten messages."""
    cases_of: dict[str, list[str]] = {}
    for finding in findings:
        cases_of.setdefault(f"{finding.message} ({finding.remedy})", []).append(finding.case_id or "")
    lines = [f"{_format_cases(cases)}{text}" for text, cases in cases_of.items()]
    more = f"; and {len(lines) - _MAX_FINDINGS} more, see the report" if len(lines) > _MAX_FINDINGS else ""
    return "; ".join(lines[:_MAX_FINDINGS]) + more


def _format_cases(case_ids: list[str]) -> str:
    case_ids = [case_id for case_id in case_ids if case_id]
    if not case_ids:
        return ""  # a finding on the cohort
    more = f" and {len(case_ids) - _MAX_CASES} more" if len(case_ids) > _MAX_CASES else ""
    return f"case{'s' if len(case_ids) > 1 else ''} {', '.join(case_ids[:_MAX_CASES])}{more}: "
