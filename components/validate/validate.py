"""Validate an ingested cohort: facts and findings for every case, and the cases accepted for training."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Self

import pandas as pd

from components.ct.cases import OnInvalid, read_cases, write_cases, write_skipped
from components.ct.image_size import check_image_size
from components.runtime.errors import CohortError, InputError, format_beside
from components.runtime.files import atomic_folder
from components.runtime.workers import map_cases
from components.validate.data_docs import write_data_docs
from components.validate.facts import fact_table
from components.validate.inspection import Inspection, inspect_case
from components.validate.outcome import Finding, Outcome, Severity, join_findings
from components.validate.profile import Drift, Profile, compare_profiles
from components.validate.report import write_report
from components.validate.resize_audit import ResizeAudit
from components.validate.suite import check_facts

FACTS, FINDINGS, DRIFT, RESIZE_AUDIT = "facts.csv", "findings.csv", "drift.csv", "resize_audit.csv"


@dataclass(frozen=True)
class Outputs:
    """Paths of the outputs: folders, except for the report, an HTML page."""

    accepted: Path
    facts: Path
    profile: Path
    data_docs: Path
    report: Path

    @classmethod
    def inside(cls, folder: Path) -> Self:
        """Place each output in `folder` under its own name."""
        return cls(*(folder / field.name for field in fields(cls)))


def validate(
    cases: Path,
    outputs: Outputs,
    *,
    on_invalid: str = OnInvalid.FAIL,
    image_size: int = 128,
    reference: Profile | None = None,
    hard_cases: Collection[str] = (),
    workers: int | None = None,
) -> Outcome:
    """Measure every case, check the facts against the suite, and write the accepted cases.

    A refused cohort sets `Outcome.refusal` instead of raising an error, because a cluster keeps the report only if
    the step succeeds. The table of accepted cases is then empty, and slice refuses it.

    Args:
        cases: output of ingest.
        outputs: paths to write.
        on_invalid: `fail` refuses a cohort with a critical finding; `skip` drops the cases that have one.
        image_size: edge of the network's grid in pixels, for the resize audit.
        reference: profile of an earlier cohort to compare with.
        hard_cases: ids that the gate treats as hard; unknown ones are an error, long before the gate.
        workers: number of cases to read in parallel; by default the number of processors.

    Raises:
        InputError: a parameter is invalid, or there are no cases.
    """
    skip = OnInvalid(on_invalid) is OnInvalid.SKIP
    check_image_size(image_size)
    table = read_cases(cases)
    if not table:
        raise CohortError(f"{cases}: the case table is empty; give a source with scans and masks")
    case_ids = [case.case_id for case in table]
    if unknown := sorted({*hard_cases} - {*case_ids}):
        known = f"{', '.join(case_ids[:5])}{', …' * (len(case_ids) > 5)}"
        raise InputError(f"hard_cases: {', '.join(unknown)}: not in the cohort; expected ids such as {known}")
    inspections = map_cases(partial(inspect_case, cases, image_size=image_size), table, "checked", workers)
    facts = fact_table([inspection.facts for inspection in inspections], table)
    result = check_facts(facts)
    outcome, profile = _determine_outcome(facts, inspections, result.findings, skip, reference)
    with atomic_folder(outputs.data_docs) as folder:
        write_data_docs(folder, result.suite, result.validation)
    with atomic_folder(outputs.accepted) as folder:
        write_cases(folder, [case for case in table if case.case_id in outcome.accepted_ids])
        write_skipped(folder, outcome.skipped())
    with atomic_folder(outputs.profile) as folder:
        profile.write(folder)
    with atomic_folder(outputs.facts) as folder:
        for name, rows in (
            (FACTS, facts),
            (FINDINGS, _as_table(outcome.findings, Finding)),
            (RESIZE_AUDIT, _as_table(outcome.audits, ResizeAudit)),
            (DRIFT, _as_table(outcome.drifts, Drift)),
        ):
            rows.to_csv(folder / name, index=False, lineterminator="\n")
    pictures = {inspection.facts.case_id: inspection.picture for inspection in inspections}
    write_report(outputs.report, facts, outcome, image_size, pictures)
    return outcome


def _determine_outcome(
    facts: pd.DataFrame, inspections: list[Inspection], findings: list[Finding], skip: bool, reference: Profile | None
) -> tuple[Outcome, Profile]:
    """Return the outcome, and the profile of the cases without critical findings."""
    critical = [finding for finding in findings if finding.is_critical]
    invalid_ids = {finding.case_id for finding in critical if finding.case_id}
    valid_facts = facts[~facts.case_id.isin(invalid_ids)]
    if skip and invalid_ids and len(valid_facts):
        # The remaining cases must meet the expectations on the cohort, too.
        critical = [finding for finding in check_facts(valid_facts).findings if finding.is_critical]
    valid_inspections = [inspection for inspection in inspections if inspection.facts.case_id not in invalid_ids]
    profile = Profile.from_facts(valid_facts, [inspection.hu_shares for inspection in valid_inspections])
    drifts = compare_profiles(reference=reference, observed=profile) if reference else []
    outcome = Outcome(
        accepted_ids=[] if critical else list(valid_facts.case_id),
        dropped_ids=sorted(invalid_ids),
        findings=[*findings, *(_drift_finding(drift) for drift in drifts if drift.exceeds_limit)],
        refusal=f"validation of {len(facts)} cases failed: {join_findings(critical)}" if critical else None,
        drifts=drifts,
        audits=[inspection.resize for inspection in inspections if inspection.resize],
    )
    return outcome, profile


def _drift_finding(drift: Drift) -> Finding:
    medians = f", median {drift.reference} in the reference and {drift.observed} here" if drift.reference else ""
    value = format_beside(drift.value, drift.limit)
    message = f"drift from the reference cohort: {drift.measure} {value}, limit {drift.limit:g}{medians}"
    return Finding(Severity.WARNING, None, drift.fact, message, "earlier test results may not hold for these scans")


def _as_table(rows: Sequence[object], kind: type) -> pd.DataFrame:
    return pd.DataFrame([vars(row) for row in rows], columns=[field.name for field in fields(kind)])
