"""Which scans are of one patient, so that they never part in a split."""

import csv
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from components.ingest.pairing import case_id_of
from components.runtime.errors import CohortError

PATIENTS = "patients.csv"
# The 20-case set (Zenodo record 3757476): 10_85902_1 and _3 are one patient; the two of 29 may be, so they are kept
# together as well.
_KNOWN = Path(__file__).with_name("known_patients.csv")


def patients_of(case_ids: Iterable[str], source: Path, present: Collection[str] = ()) -> dict[str, str]:
    """The patient of each case: by the source's own `patients.csv`, by what is known, otherwise the case itself.

    Args:
        case_ids: the cases that need a patient.
        source: the cohort's folder.
        present: further cases that have a file, and so may be listed.

    Raises:
        CohortError: `patients.csv` lacks a column, or names a case that is not there: a misspelt case would
            otherwise let two scans of one patient part.
    """
    case_ids = list(case_ids)
    own = source / PATIENTS
    rows = _read(own) if own.is_file() else []
    strangers = [line for line, case_id, _ in rows if case_id not in {*case_ids, *present}]
    if strangers:
        # By line: the names may name people.
        lines = ", ".join(map(str, strangers[:5]))
        raise CohortError(
            f"{own}: names {len(strangers)} cases that have no scan, in line {lines}; correct or remove them"
        )
    known = {case_id: patient_id for _, case_id, patient_id in (*_read(_KNOWN), *rows)}
    return {case_id: known.get(case_id, case_id) for case_id in case_ids}


def write_patients(folder: Path, patient_of: Mapping[str, str]) -> None:
    """Write `patients.csv`, so that the folder is itself a source in which patients stay together."""
    with (folder / PATIENTS).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("case_id", "patient_id"))
        table.writerows(sorted(patient_of.items()))


def _read(path: Path) -> list[tuple[int, str, str]]:
    """The line, the case and the patient of each row."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            rows = [(table.line_num, row) for row in table]
    except UnicodeDecodeError:
        raise CohortError(f"{path}: is no UTF-8 text; save it as CSV in UTF-8") from None
    if any(not row.get("case_id") or not row.get("patient_id") for _, row in rows):
        raise CohortError(f"{path}: a row lacks case_id or patient_id; expected both columns, filled in every row")
    return [(line, case_id_of(row["case_id"]), row["patient_id"]) for line, row in rows]
