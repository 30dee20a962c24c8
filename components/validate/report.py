"""The validation report: an HTML page of all cases with pictures, findings and facts."""

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

import pandas as pd

from components.report.page import write_page
from components.validate.outcome import Finding, Outcome

_TEMPLATE = Path(__file__).parent / "report.html.jinja"
MAX_PICTURES = 60  # about 8 kB each; the Kubeflow UI shows pages of a few MB


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
    findings = {case_id: [one for one in outcome.findings if one.case_id == case_id] for case_id in facts.case_id}
    worst_first = sorted(facts.case_id, key=lambda case_id: min(map(_rank, findings[case_id]), default=2))
    write_page(
        path,
        _TEMPLATE,
        outcome=outcome,
        findings=sorted(outcome.findings, key=_rank),
        cases=[(case_id, pictures.get(case_id), findings[case_id]) for case_id in worst_first],
        max_pictures=MAX_PICTURES,
        columns=list(facts.columns),
        rows=[[_format(value) for value in row] for row in facts.itertuples(index=False)],
        image_size=image_size,
        round_trip_dice=fmean(audit.round_trip_dice for audit in outcome.audits) if outcome.audits else None,
        lesions=sum(audit.lesions for audit in outcome.audits),
        lesions_lost=sum(audit.lesions_lost for audit in outcome.audits),
    )


def _rank(finding: Finding) -> int:
    return int(not finding.is_critical)


def _format(value: object) -> str:
    if value is None or pd.isna(value):
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)
