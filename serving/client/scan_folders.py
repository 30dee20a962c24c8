"""Segment many scans, one after the other; a scan that fails does not stop the others."""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from components.ct.scan_folder import find_scans, scan_name
from components.runtime.errors import InputError, join_problems
from components.runtime.files import atomic_write
from serving.client.scan_files import OutputFiles, Predict, check_outputs, segment_scan

SUMMARY = "summary.csv"
MASK_SUFFIX = "_mask.nii.gz"


class ScanTask(NamedTuple):
    """A scan to segment, with its case name and its outputs."""

    case: str
    scan: Path
    outputs: OutputFiles


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


def scans_by_case(folder: Path) -> dict[str, Path]:
    """Find the scans of a folder by case name.

    Raises:
        InputError: The folder holds no scans, or two with one name.
    """
    scans: dict[str, Path] = {}
    for path in find_scans(folder):
        case = scan_name(path)
        if case in scans:
            raise InputError(f"{path}: has the same name as {scans[case]}; keep one of them")
        scans[case] = path
    return scans


def plan_task(
    case: str, scan: Path, folder: Path, *, probability: bool = False, preview: bool = False, segmentation: bool = False
) -> ScanTask:
    """Name the outputs of a case in a folder of results."""
    outputs = OutputFiles(
        mask=folder / f"{case}{MASK_SUFFIX}",
        probability=folder / f"{case}_probability.nii.gz" if probability else None,
        preview=folder / f"{case}.png" if preview else None,
        segmentation=folder / f"{case}_seg.dcm" if segmentation else None,
    )
    return ScanTask(case, scan, outputs)


def check_all_outputs(tasks: Iterable[ScanTask], summary: Path, force: bool) -> None:
    """Check before any work that all outputs can be written and overwrite nothing.

    Raises:
        InputError: Some cannot; the message names all of them.
    """
    problems = []
    if summary.exists() and not force:
        problems.append(f"{summary}: exists already; choose another folder, or overwrite it with --force")
    for task in tasks:
        try:
            check_outputs(task.scan, task.outputs, force)
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError(join_problems(problems))


def segment_scans(predict: Predict, tasks: Iterable[ScanTask], min_lesion_ml: float = 0.0) -> Iterator[SummaryRow]:
    """Segment scans and yield a row for each as soon as it is done."""
    for task in tasks:
        try:
            result = segment_scan(predict, task.scan, task.outputs, min_lesion_ml)
        except InputError as error:
            yield SummaryRow(task.case, error=" ".join(str(error).split()))
        else:
            yield SummaryRow(
                task.case, **asdict(result.burden), intensity=result.intensity, model_version=result.version
            )


def write_summary(path: Path, rows: Iterable[SummaryRow]) -> None:
    """Write the summary as CSV: volumes in mL, percent of the scan's volume, and counts of axial slices."""
    with atomic_write(path) as temporary, temporary.open("w", newline="") as file:
        table = csv.DictWriter(file, [field.name for field in fields(SummaryRow)], lineterminator="\n")
        table.writeheader()
        table.writerows(_round(row) for row in rows)


def _round(row: SummaryRow) -> dict[str, Any]:
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in asdict(row).items()}
