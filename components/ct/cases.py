"""The case table: one row per scan, passed from step to step."""

import csv
import logging
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from pathlib import Path, PurePosixPath

from components.runtime.errors import CohortError, InputError, VolumeError
from components.runtime.files import atomic_write, sha256_of

CASES_FILE = "cases.csv"
SKIPPED_FILE = "skipped.txt"  # beside the table: a line for each case or file that the step left out, with the reason
_log = logging.getLogger(__name__)
_CASE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# Fillers and selectors: Default_Ignorable_Code_Point (Unicode, DerivedCoreProperties.txt) beyond categories Cf and Cc.
_FILLERS = (
    r"[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff]"
)


class OnInvalid(StrEnum):
    """How a step handles invalid cases: fail, or skip them. Other values raise `InputError`."""

    FAIL = "fail"
    SKIP = "skip"

    @classmethod
    def _missing_(cls, value: object) -> None:
        raise InputError(f"on_invalid: {value!r}; expected {' or '.join(cls)}")


@dataclass(frozen=True)
class Case:
    """A scan and its lesion mask."""

    case_id: str  # unique in the table; letters, digits, `.`, `_` and `-`, starting with a letter or digit
    patient_id: str  # scans of one patient always belong to the same split
    site: str  # where the scan was acquired, or its cohort; metrics are reported by site
    scan: str  # path relative to the table's folder
    mask: str  # likewise; empty for a scan without a mask
    intensity: str  # a value of `components.ct.intensity.Intensity`
    sha256_scan: str
    sha256_mask: str  # empty without a mask

    def verified_scan(self, folder: Path) -> Path:
        """Return the scan's path; raise `VolumeError` if the file does not match its digest."""
        return self._verify(folder / self.scan, self.sha256_scan)

    def verified_mask(self, folder: Path) -> Path:
        """Return the mask's path; raise `VolumeError` if there is none or it does not match its digest."""
        if not self.mask:
            raise VolumeError(f"case {self.case_id}: has no mask; training and evaluation require one for each scan")
        return self._verify(folder / self.mask, self.sha256_mask)

    def _verify(self, path: Path, expected: str) -> Path:
        if not path.is_file():
            raise VolumeError(f"case {self.case_id}: {path} is missing; run ingest again")
        digest = sha256_of(path)
        if digest != expected:
            raise VolumeError(
                f"case {self.case_id}: {path} has sha256 {digest[:12]}…; expected {expected[:12]}… from the case "
                "table; run ingest again"
            )
        return path


def normalize_name(name: str) -> str:
    """Return a name with compatible characters (NFKC) and single spaces, without invisible characters."""
    visible = [c for c in re.sub(_FILLERS, "", name) if c.isspace() or unicodedata.category(c) not in ("Cf", "Cc")]
    return " ".join(unicodedata.normalize("NFKC", "".join(visible)).split())


def name_key(name: str) -> str:
    """Return what the spellings of one name share: `normalize_name` without case."""
    # upper and the dot: IŞIL, Işıl and ışıl are one name, and so are İpek and ipek.
    return normalize_name(normalize_name(name).upper().casefold().replace("i\u0307", "i"))


def write_cases(folder: Path, cases: Iterable[Case]) -> None:
    """Write `cases.csv` into `folder`, sorted by case id."""
    with atomic_write(folder / CASES_FILE) as temporary, temporary.open("w", newline="") as file:
        table = csv.DictWriter(file, [field.name for field in fields(Case)], lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(case) for case in sorted(cases, key=lambda case: case.case_id))


def write_skipped(folder: Path, lines: Iterable[str]) -> None:
    """Log what a step left out, and write it to `skipped.txt` in `folder` if there is any."""
    if lines := list(lines):
        (folder / SKIPPED_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogateescape")
    for line in lines:
        _log.info("%s%s", "" if line.startswith("not used") else "skipped: ", line)


def read_skipped(folder: Path) -> list[str]:
    """Read what a step left out; nothing if there is no file."""
    path = folder / SKIPPED_FILE
    return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines() if path.is_file() else []


def read_cases(folder: Path) -> list[Case]:
    """Read `cases.csv` of `folder`.

    Raises:
        CohortError: no table, other columns, an incomplete row, a duplicate or invalid case id, or a path that leaves
            the folder.

    Spellings of a patient that differ in case, white space or Unicode form become the first one.
    """
    path = folder / CASES_FILE
    if not path.is_file():
        raise CohortError(f"{path}: no such file; expected the output of the ingest step")
    with path.open(newline="") as file:
        table = csv.DictReader(file)
        expected = [field.name for field in fields(Case)]
        if table.fieldnames != expected:
            raise CohortError(f"{path}: has columns {table.fieldnames}; expected {expected}")
        rows = list(table)
    for line, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise CohortError(f"{path}: line {line} has too few or too many columns; run ingest again")
    spelling: dict[str, str] = {}
    cases = [Case(**row) for row in rows]
    cases = [
        replace(case, patient_id=spelling.setdefault(name_key(case.patient_id), normalize_name(case.patient_id)))
        for case in cases
    ]
    case_ids: set[str] = set()
    for case in cases:
        if not _CASE_ID.fullmatch(case.case_id):
            raise CohortError(f"{path}: case id {case.case_id!r}; expected letters, digits, '.', '_' and '-'")
        if case.case_id in case_ids:
            raise CohortError(f"{path}: duplicate case id {case.case_id}; expected one row per case")
        case_ids.add(case.case_id)
        if not case.patient_id:
            raise CohortError(f"{path}: case {case.case_id} has no patient id; run ingest again")
        for relative in filter(None, (case.scan, case.mask)):
            if PurePosixPath(relative).is_absolute() or ".." in PurePosixPath(relative).parts:
                raise CohortError(f"{path}: case {case.case_id}: {relative} is outside the artifact's folder")
    return cases
