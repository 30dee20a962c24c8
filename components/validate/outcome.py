"""What validation came to, as the steps after it, the page and the table of runs need it."""

from dataclasses import dataclass
from statistics import fmean

from components.validate.findings import Finding
from components.validate.profile import Drift
from components.validate.resize_audit import ResizeAudit


@dataclass(frozen=True)
class Outcome:
    """What validation came to.

    Attributes:
        accepted: ids of the cases that may be trained on; none of a cohort that is refused.
        dropped: ids of those left out.
        findings: everything that does not meet an expectation, warnings as well.
        refusal: why the cohort may not be trained on, in one line; empty where it may.
        drifts: comparisons with the reference profile, if there is one.
        audits: what the network's grid costs each case with a lesion.
    """

    accepted: list[str]
    dropped: list[str]
    findings: list[Finding]
    refusal: str
    drifts: list[Drift]
    audits: list[ResizeAudit]

    @property
    def critical(self) -> list[Finding]:
        """The findings that keep a case or the cohort from being trained on."""
        return [finding for finding in self.findings if finding.is_critical]

    def summary(self) -> dict[str, float]:
        """Finite numbers for a table of runs."""
        numbers: dict[str, float] = {
            "cases_accepted": len(self.accepted),
            "cases_dropped": len(self.dropped),
            "critical_findings": len(self.critical),
            "warnings": len(self.findings) - len(self.critical),
        }
        if self.audits:
            numbers["resize_round_trip_dice"] = fmean(audit.round_trip_dice for audit in self.audits)
            numbers["resize_lesions_lost"] = sum(audit.lesions_lost for audit in self.audits)
        if self.drifts:
            numbers["hu_stability_index"] = self.drifts[0].value
            numbers["drifted_facts"] = sum(drift.is_large for drift in self.drifts)
        return {name: float(value) for name, value in numbers.items()}
