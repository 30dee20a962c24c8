"""An ingested cohort to the table of cases that may be trained on, with the facts and findings behind it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from components.ct.cases import Case, read_cases, write_cases
from components.runtime.errors import CohortError, InputError
from components.runtime.files import atomic_write
from components.runtime.workers import map_cases
from components.validate.facts import fact_table
from components.validate.findings import Finding, in_one_line
from components.validate.inspection import Inspection, inspect_case
from components.validate.outcome import Outcome
from components.validate.profile import Drift, Profile, compare
from components.validate.report import write_report
from components.validate.resize_audit import ResizeAudit

FACTS, FINDINGS, DRIFT, RESIZE_AUDIT = "facts.csv", "findings.csv", "drift.csv", "resize_audit.csv"
POLICIES = ("fail", "skip")


@dataclass(frozen=True)
class Outputs:
    """Where validation writes to: folders, but for the report, an HTML page."""

    accepted: Path
    facts: Path
    profile: Path
    data_docs: Path
    report: Path


def validate(
    cases: Path,
    outputs: Outputs,
    *,
    on_invalid: str = "fail",
    image_size: int = 128,
    reference: Profile | None = None,
    workers: int | None = None,
) -> Outcome:
    """Put down the facts of every case, hold them against the suite, and pass on the cases that meet it.

    A cohort that is refused ends in `Outcome.refusal`, not in an error: a cluster stores the outputs, the report
    among them, of steps that succeed alone. Its table of accepted cases is empty, and slice refuses that.

    Args:
        cases: output of ingest; the volumes stay there.
        outputs: what to write.
        on_invalid: `fail` at any critical finding, or `skip` the cases that have one if enough others remain.
        image_size: edge of the network's grid in pixels, for the audit of what resizing loses.
        reference: profile of an earlier cohort to compare this one with.
        workers: cases read at the same time; by default as many as there are processors.

    Raises:
        InputError: a bad parameter, or no cases at all.
    """
    if on_invalid not in POLICIES:
        raise InputError(f"on_invalid is {on_invalid!r}; expected {' or '.join(POLICIES)}")
    if image_size < 1:
        raise InputError(f"image_size is {image_size}; expected the edge of the network's grid, such as 128")
    table = read_cases(cases)
    if not table:
        raise CohortError(f"{cases}: the case table is empty; give a source with scans and masks")
    inspected = map_cases(partial(inspect_case, cases, image_size=image_size), table, "checked", workers)
    rows = fact_table([one.facts for one in inspected], table)
    outcome, profile = _judge(rows, inspected, on_invalid, reference, outputs.data_docs)
    _write(outputs, table, rows, outcome, profile)
    write_report(outputs.report, rows, outcome, image_size, {one.facts.case_id: one.picture for one in inspected})
    return outcome


def _judge(
    rows: pd.DataFrame, inspected: Sequence[Inspection], on_invalid: str, reference: Profile | None, data_docs: Path
) -> tuple[Outcome, Profile]:
    """The outcome, and the profile of the cases that are not dropped; the library's pages are written on the way."""
    from components.validate.data_docs import write_data_docs
    from components.validate.suite import check

    checked = check(rows)
    with atomic_write(data_docs) as temporary:
        temporary.mkdir()
        write_data_docs(temporary, checked.suite, checked.result)
    blocking = [finding for finding in checked.findings if finding.is_critical]
    bad = {finding.case_id for finding in blocking if finding.case_id}
    kept = rows[~rows.case_id.isin(bad)]
    if on_invalid == "skip" and bad and len(kept):
        # What holds for the cohort as a whole has to hold for what is left of it.
        blocking = [finding for finding in check(kept).findings if finding.is_critical]
    ids = set(kept.case_id)
    profile = Profile.of(
        kept, [one.hu_shares for one in inspected if one.facts.case_id in ids and one.hu_shares is not None]
    )
    drifts = compare(reference, profile) if reference else []
    outcome = Outcome(
        accepted=[] if blocking else list(kept.case_id),
        dropped=sorted(bad),
        findings=[*checked.findings, *(_drift_finding(drift) for drift in drifts if drift.is_large)],
        refusal=f"validation of {len(rows)} cases failed: {in_one_line(blocking)}" if blocking else "",
        drifts=drifts,
        audits=[one.resize for one in inspected if one.resize],
    )
    return outcome, profile


def _drift_finding(drift: Drift) -> Finding:
    medians = f": the median was {drift.reference}, is {drift.found}" if drift.reference else ""
    says = f"drifted from the reference cohort, {drift.measure} {drift.value:.2f} (limit {drift.limit:g}){medians}"
    return Finding("warning", None, drift.fact, says, "earlier test results may not hold for these scans")


def _write(outputs: Outputs, table: Sequence[Case], rows: pd.DataFrame, outcome: Outcome, profile: Profile) -> None:
    kept = set(outcome.accepted)
    with atomic_write(outputs.accepted) as temporary:
        temporary.mkdir()
        write_cases(temporary, [case for case in table if case.case_id in kept])
    with atomic_write(outputs.profile) as temporary:
        temporary.mkdir()
        profile.write(temporary)
    with atomic_write(outputs.facts) as temporary:
        temporary.mkdir()
        rows.to_csv(temporary / FACTS, index=False, lineterminator="\n")
        for name, kind, found in (
            (FINDINGS, Finding, outcome.findings),
            (RESIZE_AUDIT, ResizeAudit, outcome.audits),
            (DRIFT, Drift, outcome.drifts),
        ):
            listed = pd.DataFrame([vars(row) for row in found], columns=list(kind.__dataclass_fields__))
            listed.to_csv(temporary / name, index=False, lineterminator="\n")
