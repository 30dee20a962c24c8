"""The page that a person reads: every case with a picture, every finding and every fact, without any network."""

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

import pandas as pd

from components.report.page import write_page
from components.validate.findings import Finding
from components.validate.outcome import Outcome

_PAGE = Path(__file__).parent / "report.html.jinja"
MOST_PICTURES = 60  # some 8 kB each: the Kubeflow UI shows pages of a few MB


def write_report(
    path: Path, facts: pd.DataFrame, outcome: Outcome, image_size: int, pictures: Mapping[str, bytes | None]
) -> None:
    """Write the page.

    Args:
        path: the HTML file.
        facts: the fact table.
        outcome: what validation came to.
        image_size: edge of the network's grid in pixels.
        pictures: a PNG for each case id, or None; of a large cohort those with findings are shown first.
    """
    said = {case_id: [one for one in outcome.findings if one.case_id == case_id] for case_id in facts.case_id}
    worst_first = sorted(facts.case_id, key=lambda case_id: min((_rank(one) for one in said[case_id]), default=2))
    write_page(
        path,
        _PAGE,
        outcome=outcome,
        findings=sorted(outcome.findings, key=_rank),
        cases=[(case_id, pictures.get(case_id), said[case_id]) for case_id in worst_first],
        most_pictures=MOST_PICTURES,
        columns=list(facts.columns),
        rows=[[_cell(value) for value in row] for row in facts.itertuples(index=False)],
        image_size=image_size,
        round_trip_dice=fmean(audit.round_trip_dice for audit in outcome.audits) if outcome.audits else None,
        lesions=sum(audit.lesions for audit in outcome.audits),
        lesions_lost=sum(audit.lesions_lost for audit in outcome.audits),
    )


def _rank(finding: Finding) -> int:
    return int(not finding.is_critical)


def _cell(value: object) -> str:
    if value is None or pd.isna(value):
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)
