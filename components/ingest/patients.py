"""The patients of a cohort: from the `patients.csv` of its folder, the known patients, or one for each case.

Two scans of one patient in different splits make every score worthless. Hence spellings of a name that differ in case,
white space or Unicode form are one patient, and a table that is ambiguous is refused. Messages contain line numbers,
not names: a name may identify a person.
"""

import csv
import logging
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from components.ct.cases import name_key, normalize_name
from components.ingest.cohort_folder import LayoutError
from components.ingest.pairing import parse_case_id
from components.runtime.errors import CohortError

PATIENTS_FILE = "patients.csv"
# The 20-case set (Zenodo record 3757476): 10_85902_1 and _3 are one patient. The two scans of 29 may be.
_KNOWN_PATIENTS = Path(__file__).with_name("known_patients.csv")
# patient.csv, patients.txt, patients (1).csv, …, but no file of a scan such as patient_1.txt, and no lock of Excel
_SIMILAR_NAME = re.compile(
    r"(?!~\$)(patient|[\W\d_]*patients([\W\d_]|copy)*)(\.(csv|tsv|txt|xlsx?|ods|numbers))+|patients(\.json)?"
)
_SEPARATORS = ",;\t|"
_SEPARATOR_LINE = re.compile(r'"?sep=', re.IGNORECASE)  # Excel's own first line
_log = logging.getLogger(__name__)


class _Row(NamedTuple):
    line: int
    case: str  # key of the case
    patient: str


def find_patient_table(source: str, names: Iterable[str]) -> str | None:
    """Find `patients.csv`, in any case, among the file names of a source.

    Raises:
        CohortError: there are two, or only a file that looks like one (`LayoutError`), such as `patients.txt`, or
            `patients.csv` in a folder of the source. Files further down may be those of a DICOM series.
    """
    files = (name for name in names if name.count("/") <= 1)
    similar = sorted(name for name in files if _SIMILAR_NAME.fullmatch(name_key(name.rpartition("/")[2])))
    tables = [name for name in similar if name_key(name) == PATIENTS_FILE]
    if len(tables) > 1:
        raise CohortError(f"{source}: {' and '.join(tables)} both list patients; keep one")
    if similar and not tables:
        problem = (
            f"may list patients, but is not read; expected {PATIENTS_FILE} beside the folder of scans, as text in "
            "UTF-8; save it there, or rename the file"
        )
        raise LayoutError(*(f"{source}: {name} {problem}" for name in (similar[0], similar[0].rpartition("/")[2])))
    return tables[0] if tables else None


def assign_patients(case_ids: Iterable[str], table: Path | None, other_cases: Collection[str] = ()) -> dict[str, str]:
    """Map each case to its patient: from the source's table, the known patients, or the case id itself.

    Args:
        case_ids: cases to assign.
        table: `patients.csv` of the source, if it has one.
        other_cases: further cases that the table may list.

    Raises:
        CohortError: the table is unreadable or contradicts itself, or lists an unknown case: a misspelled case
            could put two scans of one patient into different splits.
    """
    key_of = {case_id: _case_key(case_id) for case_id in case_ids}
    rows = _read_rows(table) if table else []
    if table:
        _check_rows(table, rows, {*key_of.values(), *map(_case_key, other_cases)})
    listed = {row.case: row.patient for row in rows}
    known = {row.case: row.patient for row in _read_rows(_KNOWN_PATIENTS)}
    # The table may rename a known patient by listing one of the scans.
    renamed = {known[case]: patient for case, patient in listed.items() if case in known}
    patient_of = {case: renamed.get(patient, patient) for case, patient in known.items()} | listed
    spelling = {name_key(row.patient): row.patient for row in reversed(rows)}  # the first one
    patients = {case_id: patient_of.get(key, case_id) for case_id, key in key_of.items()}
    return {case_id: spelling.setdefault(name_key(patient), patient) for case_id, patient in patients.items()}


def write_patients(folder: Path, patient_of: Mapping[str, str]) -> None:
    """Write `patients.csv`, from which ingest reads the patients if the folder is its source."""
    with (folder / PATIENTS_FILE).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("case_id", "patient_id"), *sorted(patient_of.items())])


def _case_key(name: str) -> str:
    return parse_case_id(name).casefold()


def _read_rows(path: Path) -> list[_Row]:
    """Read the rows, separated by comma, semicolon, tab or bar; other columns and blank rows are ignored."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [*file]
        if lines and _SEPARATOR_LINE.match(lines[0]):
            lines[0] = ""  # keeps the numbers of the others
        header = next(filter(str.strip, lines), "")
        separator = next((s for s in _SEPARATORS if _find_columns(header.split(s))), ",")
        reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
        rows = [(reader.line_num, [normalize_name(cell) for cell in row]) for row in reader]
    except UnicodeDecodeError:
        raise CohortError(f"{path}: not UTF-8 text; save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise CohortError(f"{path}: quotes or separators cannot be read ({error}); save it as CSV in UTF-8") from None
    except OSError as error:
        raise CohortError(f"{path}: cannot be read ({error.strerror}); check the file") from None
    (first, names), *filled = [(line, row) for line, row in rows if any(row)] or [(1, [""])]
    columns = _find_columns(names)
    if not columns:
        raise CohortError(f"{path}: line {first} is not the header; expected one column each of case_id,patient_id")
    case, patient = columns
    for line, row in filled:
        if any(row[len(names) :]):
            raise CohortError(f"{path}: line {line} has {len(row)} columns; expected {len(names)}; quote its commas")
        if len(row) <= max(case, patient) or not (row[case] and row[patient]):
            raise CohortError(f"{path}: line {line} lacks case_id or patient_id; fill both columns in every row")
    return [_Row(line, _case_key(row[case]), row[patient]) for line, row in filled]


def _find_columns(header: Iterable[str]) -> tuple[int, int] | None:
    """Find the columns of cases and patients in a header; None unless there is one of each."""
    columns = [re.sub(r"[\W_]+", "", name_key(name)).removesuffix("id") for name in header]
    if columns.count("case") != 1 or columns.count("patient") != 1:
        return None
    return columns.index("case"), columns.index("patient")


def _check_rows(table: Path, rows: list[_Row], cases: Collection[str]) -> None:
    """Raise `CohortError` for unknown cases and contradictions; warn about patients whose names are nearly the same."""
    unknown = [row.line for row in rows if row.case not in cases]
    if unknown:
        count = "1 case" if len(unknown) == 1 else f"{len(unknown)} cases"
        raise CohortError(f"{table}: {count} without a scan, {_lines(unknown, ', ')}; correct or remove the rows")
    first_of: dict[str, _Row] = {}
    similar: dict[str, dict[str, int]] = {}  # reduced name -> the line of each patient
    for row in rows:
        first = first_of.setdefault(row.case, row)
        if name_key(first.patient) != name_key(row.patient):
            lines = _lines([first.line, row.line], " and ")
            raise CohortError(f"{table}: {lines} give one case two patients; expected one row for each case")
        similar.setdefault(_reduce(row.patient), {}).setdefault(name_key(row.patient), row.line)
    for lines_of in similar.values():
        if len(lines_of) > 1:
            lines = _lines(lines_of.values(), " and ")
            _log.warning(
                "%s: %s name patients that are nearly the same; if they are one, write them alike", table, lines
            )


def _reduce(name: str) -> str:
    """Reduce a name to letters and digits, without accents and leading zeros: `P-07` and `p7` are nearly the same.

    So are the ways in which spreadsheets and pandas write one number, such as 1 and 1.0.
    """
    letters = "".join(c for c in unicodedata.normalize("NFKD", name_key(name)) if not unicodedata.combining(c))
    letters = "".join(str(unicodedata.digit(c, c)) for c in letters)
    if re.fullmatch(r"\d{1,15}([.,]\d{1,9})?(e\+?\d\d?)?", letters):
        letters = f"{Decimal(letters.replace(',', '.')).normalize():f}"
    letters = re.sub(r"(?<=\d)[\W_]+(?=\d)", "-", letters)  # 1-23 is not 12-3
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"(?!(?<=\d)-(?=\d))[\W_]+", "", letters))


def _lines(lines: Iterable[int], separator: str) -> str:
    numbers = list(map(str, lines))
    return f"line{'s' * (len(numbers) > 1)} {separator.join(numbers[:5])}"
