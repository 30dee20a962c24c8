"""An ingested cohort to the table of cases that may be trained on, with the facts and findings behind it."""

from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from components.ct.atomic import written_whole
from components.ct.cases import read_cases, write_cases
from components.ct.errors import CohortError, InputError
from components.validate.facts import fact_table
from components.validate.findings import Finding, in_one_line
from components.validate.report import write_report

FACTS, FINDINGS = "facts.csv", "findings.csv"
POLICIES = ("fail", "skip")


@dataclass(frozen=True)
class Outcome:
    """What validation came to.

    Attributes:
        accepted: ids of the cases that may be trained on.
        dropped: ids of those left out.
        findings: everything that does not meet an expectation, warnings as well.
    """

    accepted: list[str]
    dropped: list[str]
    findings: list[Finding]

    @property
    def critical(self) -> list[Finding]:
        """The findings that keep a case or the cohort from being trained on."""
        return [finding for finding in self.findings if finding.is_critical]


def validate(
    cases: Path, accepted: Path, facts: Path, report: Path, *, on_invalid: str = "fail", workers: int | None = None
) -> Outcome:
    """Put down the facts of every case, hold them against the suite, and pass on the cases that meet it.

    Args:
        cases: output of ingest.
        accepted: folder to write the accepted cases' table into; their volumes stay where they are.
        facts: folder to write `facts.csv` and `findings.csv` into.
        report: HTML page to write.
        on_invalid: `fail` at any critical finding, or `skip` the cases that have one if enough others remain.
        workers: cases read at the same time; by default as many as there are processors.

    Raises:
        InputError: critical findings, all in one line, after facts and report are written.
    """
    if on_invalid not in POLICIES:
        raise InputError(f"on_invalid is {on_invalid!r}; expected {' or '.join(POLICIES)}")
    table = read_cases(cases)
    if not table:
        raise CohortError(f"{cases}: the case table is empty; give a source with scans and masks")
    rows = fact_table(cases, table, workers)
    outcome, blocking = _judge(rows, on_invalid)
    _write_facts(facts, rows, outcome.findings)
    write_report(report, rows, outcome.findings, outcome.dropped)
    if blocking:
        raise CohortError(f"validation of {len(table)} cases failed: {in_one_line(blocking)}")
    kept = set(outcome.accepted)
    with written_whole(accepted) as temporary:
        temporary.mkdir()
        write_cases(temporary, [case for case in table if case.case_id in kept])
    return outcome


def _judge(rows: pd.DataFrame, on_invalid: str) -> tuple[Outcome, list[Finding]]:
    """The outcome, and the critical findings that forbid to go on."""
    from components.validate.suite import check

    findings = check(rows)
    critical = [finding for finding in findings if finding.is_critical]
    bad = {finding.case_id for finding in critical if finding.case_id}
    kept = rows[~rows.case_id.isin(bad)]
    outcome = Outcome(list(kept.case_id), sorted(bad), findings)
    if on_invalid == "fail" or not bad:
        return outcome, critical
    if kept.empty:
        return outcome, critical
    # What holds for the cohort as a whole has to hold for what is left of it.
    return outcome, [finding for finding in check(kept) if finding.is_critical]


def _write_facts(folder: Path, rows: pd.DataFrame, findings: list[Finding]) -> None:
    with written_whole(folder) as temporary:
        temporary.mkdir()
        rows.to_csv(temporary / FACTS, index=False, lineterminator="\n")
        listed = pd.DataFrame([asdict(finding) for finding in findings], columns=list(Finding.__dataclass_fields__))
        listed.to_csv(temporary / FINDINGS, index=False, lineterminator="\n")
