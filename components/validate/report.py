"""The page that a person reads: every finding and every fact, in one file that needs no network."""

from collections.abc import Sequence
from pathlib import Path

import jinja2
import pandas as pd

from components.ct.atomic import written_whole
from components.validate.findings import Finding

_PAGES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def write_report(path: Path, facts: pd.DataFrame, findings: Sequence[Finding], dropped: Sequence[str]) -> None:
    """Write the page.

    Args:
        path: the HTML file.
        facts: the fact table.
        findings: what does not meet the expectations.
        dropped: ids of the cases left out because of critical findings.
    """
    ordered = sorted(findings, key=lambda finding: not finding.is_critical)
    page = _PAGES.get_template("report.html.jinja").render(
        columns=list(facts.columns),
        rows=[[_cell(value) for value in row] for row in facts.itertuples(index=False)],
        findings=ordered,
        critical=sum(finding.is_critical for finding in findings),
        dropped=dropped,
    )
    with written_whole(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _cell(value: object) -> str:
    if value is None or pd.isna(value):
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)
