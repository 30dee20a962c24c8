"""The validation report: an HTML page of all cases with pictures, findings and facts."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from components.report.page import MAX_ROWS, write_page
from components.validate.outcome import Outcome

_TEMPLATE = Path(__file__).parent / "report.html.jinja"


def write_report(
    path: Path, facts: pd.DataFrame, outcome: Outcome, image_size: int, pictures: Mapping[str, bytes | None]
) -> None:
    """Write the report.

    Args:
        path: HTML file to write.
        facts: the fact table.
        outcome: outcome of the validation.
        image_size: edge of the network's grid in pixels.
        pictures: PNG or None for each case id; a large cohort shows the cases with findings first.
    """
    findings = sorted(outcome.findings, key=lambda finding: not finding.is_critical)
    with_findings = [finding.case_id for finding in findings if finding.case_id]
    worst_first = list(dict.fromkeys([*with_findings, *facts.case_id]))
    sorted_facts = facts.set_index("case_id", drop=False).loc[worst_first[:MAX_ROWS]]
    write_page(
        path,
        _TEMPLATE,
        outcome=outcome,
        findings=findings,
        audits=sorted(outcome.audits, key=lambda audit: audit.round_trip_dice),
        pictures=[(case_id, pictures.get(case_id)) for case_id in worst_first],
        cases=worst_first,
        columns=list(facts.columns),
        rows=[[_format(value) for value in row] for row in sorted_facts.itertuples(index=False)],
        image_size=image_size,
    )


def _format(value: object) -> str:
    if value is None or pd.isna(value):
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)
