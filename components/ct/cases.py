"""The case table: one row for each scan, which every stage passes on."""

import csv
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath

from components.runtime.errors import CohortError, VolumeError
from components.runtime.files import atomic_write, sha256_of

TABLE = "cases.csv"
_CASE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Case:
    """A scan and its lesion mask.

    Attributes:
        case_id: unique in the table, of letters, digits, `.`, `_` and `-`, beginning with a letter or digit.
        patient_id: scans that share it never part in a split.
        site: where the case was acquired, or the cohort it belongs to; metrics are reported for each site.
        scan: path of the scan, relative to the table's folder.
        mask: path of the mask, or empty for a scan without one.
        intensity: what the scan's numbers are, a value of `components.ct.intensity.Intensity`.
        sha256_scan: digest of the scan's file.
        sha256_mask: digest of the mask's file, empty where there is none.
    """

    case_id: str
    patient_id: str
    site: str
    scan: str
    mask: str
    intensity: str
    sha256_scan: str
    sha256_mask: str

    def verified_scan(self, folder: Path) -> Path:
        """The scan's path; `VolumeError` unless the file there still has the recorded digest."""
        return _verified(folder / self.scan, self.sha256_scan, self.case_id)

    def verified_mask(self, folder: Path) -> Path:
        """The mask's path; `VolumeError` unless the file there still has the recorded digest."""
        if not self.mask:
            raise VolumeError(f"case {self.case_id}: has no mask; training and evaluation need one for each scan")
        return _verified(folder / self.mask, self.sha256_mask, self.case_id)


def write_cases(folder: Path, cases: Iterable[Case]) -> None:
    """Write `cases.csv` into `folder`, ordered by case id, so that the same cases give the same bytes."""
    with atomic_write(folder / TABLE) as temporary, temporary.open("w", newline="") as file:
        table = csv.DictWriter(file, [field.name for field in fields(Case)], lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(case) for case in sorted(cases, key=lambda case: case.case_id))


def read_cases(folder: Path) -> list[Case]:
    """Read `cases.csv` of `folder`.

    Raises:
        CohortError: no table, other columns, an incomplete row, a repeated or impossible case id, or a path that
            leaves the folder.
    """
    path = folder / TABLE
    if not path.is_file():
        raise CohortError(f"{path}: no case table; give the output of the ingest step")
    with path.open(newline="") as file:
        table = csv.DictReader(file)
        expected = [field.name for field in fields(Case)]
        if table.fieldnames != expected:
            raise CohortError(f"{path}: has columns {table.fieldnames}; expected {expected}")
        rows = list(table)
    broken = next((number for number, row in enumerate(rows, start=2) if None in row or None in row.values()), None)
    if broken:
        raise CohortError(f"{path}: line {broken} has too few or too many columns; run ingest again")
    cases = [Case(**row) for row in rows]
    seen: set[str] = set()
    for case in cases:
        if not _CASE_ID.fullmatch(case.case_id):
            raise CohortError(f"{path}: case id {case.case_id!r}; expected letters, digits, '.', '_' and '-'")
        if case.case_id in seen:
            raise CohortError(f"{path}: case {case.case_id} stands in it twice")
        seen.add(case.case_id)
        for relative in filter(None, (case.scan, case.mask)):
            if PurePosixPath(relative).is_absolute() or ".." in PurePosixPath(relative).parts:
                raise CohortError(f"{path}: case {case.case_id} points outside the artifact: {relative}")
    return cases


def _verified(path: Path, expected: str, case_id: str) -> Path:
    if not path.is_file():
        raise VolumeError(f"case {case_id}: {path} is missing; run ingest again")
    found = sha256_of(path)
    if found != expected:
        raise VolumeError(
            f"case {case_id}: {path} has sha256 {found[:12]}…, the case table says {expected[:12]}…; run ingest again"
        )
    return path
