"""The summary of a batch as CSV: a row for each scan, and no cell that a spreadsheet executes."""

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from components.runtime.files import atomic_write

SUMMARY_FILE = "summary.csv"
# Cells of file names and errors get an apostrophe before these characters, at the start and after a semicolon or tab,
# which also separate cells (OWASP, "CSV Injection"). Apostrophes that are there count as well: reading removes one.
_START, _FORMULA = r"(^|[;\t])", r"(?='*[=+\-@\t\r\n＝＋－＠])"


@dataclass(frozen=True)
class SummaryRow:
    """A row of the summary: the findings in one case, or the error."""

    case: str
    lesion_ml: float | None = None
    lesion_percent: float | None = None
    slices_affected: int | None = None
    slices: int | None = None
    intensity: str = ""
    model_version: int | None = None
    error: str = ""
    notes: str = ""  # on doubtful geometry

    def __str__(self) -> str:
        """The findings as text, or the error."""
        if self.error:
            return self.error
        return f"{self.lesion_ml:.1f} mL of lesion in {self.slices_affected} of {self.slices} slices"


def write_summary(path: Path, rows: Iterable[SummaryRow | Mapping[str, str]]) -> None:
    """Write the summary: volumes in mL, percent of the scan's volume, and counts of axial slices."""
    with (
        atomic_write(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,  # names may be any bytes
    ):
        table = csv.DictWriter(file, [field.name for field in fields(SummaryRow)], lineterminator="\n")
        table.writeheader()
        for row in rows:
            values = asdict(row) if isinstance(row, SummaryRow) else row
            table.writerow({name: _to_cell(value) for name, value in values.items()})


def read_summary(path: Path) -> list[dict[str, str]]:
    """Read the rows of a summary as text."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{name: re.sub(f"{_START}'{_FORMULA}", r"\1", cell) for name, cell in row.items()} for row in rows]


def _to_cell(value: object) -> object:
    if isinstance(value, float):
        return round(value, 3)
    return re.sub(_START + _FORMULA, r"\1'", value) if isinstance(value, str) else value
