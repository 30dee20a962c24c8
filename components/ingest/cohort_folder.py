"""The layout of a cohort's folder: a folder of scans, a folder of masks, and `patients.csv`."""

import csv
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from components.ingest.pairing import parse_case_id
from components.runtime.errors import CohortError

# COVID-19-CT-Seg_20cases: name of the Zenodo archive; ct_scans: its folder in the Kaggle mirror.
SCAN_FOLDERS = ("scans", "ct_scans", "COVID-19-CT-Seg_20cases")
PATIENTS_FILE = "patients.csv"
# The 20-case set (Zenodo record 3757476): 10_85902_1 and _3 are one patient. The two scans of 29 may be.
_KNOWN_PATIENTS = Path(__file__).with_name("known_patients.csv")


def find_folders(source: Path, masks: str) -> tuple[Path, Path]:
    """Find the folder of scans and the folder of masks in `source`.

    Names match regardless of case, a plural `s`, spaces and dashes: `infection_masks` also finds Zenodo's
    `Infection_Mask` and Kaggle's `infection_mask`. An exact match of `masks` wins.

    Raises:
        CohortError: one of them is missing, or several folders match.
    """
    if not source.is_dir():
        raise CohortError(
            f"{source}: no such folder; expected one with {SCAN_FOLDERS[0]}/ and {masks}/, or gs://bucket/prefix, "
            "zenodo or phantom:12"
        )
    folders = sorted(path for path in source.iterdir() if path.is_dir() and not path.name.startswith("."))
    names = ", ".join(path.name for path in folders) or "no folders"
    scan_folders = _match(folders, *SCAN_FOLDERS)
    mask_folders = [path for path in folders if path.name == masks] or _match(folders, masks)
    if not scan_folders:
        raise CohortError(f"{source}: no folder of scans (found {names}); name it {' or '.join(SCAN_FOLDERS[:2])}")
    if not mask_folders:
        raise CohortError(f"{source}: no folder of masks named {masks} (found {names}); add it, or set MASKS")
    for matches in (scan_folders, mask_folders):
        if len(matches) > 1:
            raise CohortError(f"{source}: {' and '.join(path.name for path in matches)} both match; keep one")
    return scan_folders[0], mask_folders[0]


def normalize_folder_name(name: str) -> str:
    """Reduce a folder's name to the part that `find_folders` compares."""
    return name.casefold().replace("-", "_").replace(" ", "_").removesuffix("s")


def assign_patients(case_ids: Iterable[str], source: Path, other_cases: Collection[str] = ()) -> dict[str, str]:
    """Map each case to its patient: from the source's `patients.csv`, the known patients, or the case id itself.

    Args:
        case_ids: cases to assign.
        source: folder of the cohort.
        other_cases: further cases that `patients.csv` may list.

    Raises:
        CohortError: `patients.csv` lacks a column, or lists an unknown case: a misspelled case could put two scans
            of one patient into different splits.
    """
    case_ids = list(case_ids)
    table = source / PATIENTS_FILE
    rows = _read_patients(table) if table.is_file() else []
    unknown_lines = [line for line, case_id, _ in rows if case_id not in {*case_ids, *other_cases}]
    if unknown_lines:
        # Lines, not names: a name may identify a person.
        lines = ", ".join(map(str, unknown_lines[:5]))
        raise CohortError(f"{table}: {len(unknown_lines)} cases without a scan, line {lines}; correct or remove them")
    patient_of = {case_id: patient_id for _, case_id, patient_id in (*_read_patients(_KNOWN_PATIENTS), *rows)}
    return {case_id: patient_of.get(case_id, case_id) for case_id in case_ids}


def write_patients(folder: Path, patient_of: Mapping[str, str]) -> None:
    """Write `patients.csv`, from which ingest reads the patients if the folder is its source."""
    with (folder / PATIENTS_FILE).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("case_id", "patient_id"), *sorted(patient_of.items())])


def _match(folders: Iterable[Path], *names: str) -> list[Path]:
    normalized_names = {normalize_folder_name(name) for name in names}
    return [path for path in folders if normalize_folder_name(path.name) in normalized_names]


def _read_patients(path: Path) -> list[tuple[int, str, str]]:
    """Read the line number, case id and patient id of each row."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            rows = [(table.line_num, row.get("case_id") or "", row.get("patient_id") or "") for row in table]
    except UnicodeDecodeError:
        raise CohortError(f"{path}: not UTF-8 text; save it as CSV in UTF-8") from None
    if not all(case_id and patient_id for _, case_id, patient_id in rows):
        raise CohortError(f"{path}: a row lacks case_id or patient_id; fill both columns in every row")
    return [(line, parse_case_id(case_id), patient_id) for line, case_id, patient_id in rows]
