"""A folder of scans, one after the other: a bad one is noted, and the others are not held up by it."""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from components.ct.scan_folder import find_scans, scan_name
from components.runtime.errors import InputError, join_problems
from components.runtime.files import atomic_write
from serving.client.scan_files import Outputs, Predict, check_outputs, segment_scan

SUMMARY = "summary.csv"


@dataclass(frozen=True)
class Row:
    """A line of the summary: the findings of one case, or why there are none."""

    case: str
    lesion_ml: float | None = None
    lesion_percent: float | None = None
    slices_affected: int | None = None
    slices: int | None = None
    intensity: str = ""
    model_version: int | None = None
    error: str = ""


def scans_by_case(folder: Path) -> dict[str, Path]:
    """Find the scans of a folder by case name.

    Raises:
        InputError: the folder holds no scans, or two with one name.
    """
    scans: dict[str, Path] = {}
    for path in find_scans(folder):
        case = scan_name(path)
        if case in scans:
            raise InputError(f"{path}: has the same name as {scans[case]}; keep one of them")
        scans[case] = path
    return scans


def outputs_for(case: str, folder: Path, probability: bool, preview: bool, segmentation: bool) -> Outputs:
    """Name a case's outputs in a folder of results."""
    return Outputs(
        mask=folder / f"{case}_mask.nii.gz",
        probability=folder / f"{case}_probability.nii.gz" if probability else None,
        preview=folder / f"{case}.png" if preview else None,
        segmentation=folder / f"{case}_seg.dcm" if segmentation else None,
    )


def check_all_outputs(work: Iterable[tuple[Path, Outputs]], summary: Path, force: bool) -> None:
    """See to it, before any work, that no output is overwritten.

    Raises:
        InputError: Naming all that cannot be written.
    """
    problems = []
    if summary.exists() and not force:
        problems.append(f"{summary}: exists already; choose another folder, or overwrite it with --force")
    for scan, outputs in work:
        try:
            check_outputs(scan, outputs, force)
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError(join_problems(problems))


def segment_all(
    predict: Predict, work: Iterable[tuple[str, Path, Outputs]], min_lesion_ml: float = 0.0
) -> Iterator[Row]:
    """Segment scans by case name, and yield a row for each as soon as it is done."""
    for case, scan, outputs in work:
        try:
            found = segment_scan(predict, scan, outputs, min_lesion_ml)
        except InputError as error:
            yield Row(case, error=" ".join(str(error).split()))
        else:
            yield Row(case, **asdict(found.burden), intensity=found.intensity, model_version=found.version)


def write_summary(path: Path, rows: Iterable[Row]) -> None:
    """Write the table: volumes in mL, percent of the scan's volume, and counts of axial slices."""
    with atomic_write(path) as temporary, temporary.open("w", newline="") as file:
        table = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        table.writeheader()
        table.writerows(_rounded(row) for row in rows)


def _rounded(row: Row) -> dict[str, Any]:
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in asdict(row).items()}
