"""A source of scans and masks to an artifact of clean copies with the case table."""

import re
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

from components.ct.atomic import written_whole
from components.ct.cases import Case, sha256_of, write_cases
from components.ct.errors import CohortError, InputError, VolumeError, listed
from components.ct.intensity import detect_intensity
from components.ct.labels import ANY_LABEL, binary_lesion
from components.ct.nifti import as_mask, read_stored, write_without_free_text
from components.ct.workers import each_case
from components.ingest.directory import find_folders, volumes_in
from components.ingest.pairing import Pair, pair_by_name
from components.ingest.patients import patients_of

PHANTOM = "phantom"
_KNOWN_COHORTS = ("coronacases", "radiopaedia")  # the two origins of the 20-case set, by the start of their names


def ingest(
    source: str,
    output: Path,
    *,
    masks: str = "infection_masks",
    label: int = ANY_LABEL,
    seed: int = 0,
    workers: int | None = None,
) -> list[Case]:
    """Copy a cohort into `output`: `scans/`, `masks/` and `cases.csv`, all of it or nothing.

    The copies have the source's voxels, grid, type and scaling, without the header's free text and extensions.
    Masks that say which voxels are lesion are copied as uint8 of 0 and 1; others as they are, for validate to
    report. The same source gives the same bytes.

    Args:
        source: `phantom:<cases>` for synthetic scans, or a folder with a folder of scans and one of masks.
        output: folder to write.
        masks: name of the folder of masks, see `find_folders`.
        label: the value that is the lesion, in masks with several labels; 0 takes binary masks.
        seed: of the phantom.
        workers: cases copied at the same time; by default as many as there are processors.

    Returns:
        The case table's rows, ordered by case id.

    Raises:
        InputError: a source that is not there, or cases that do not pair or cannot be read, all of them in one line.
    """
    if not 0 <= label <= 255:
        raise InputError(f"label is {label}; expected a mask value of 1 to 255, or 0 for masks of one lesion")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".ingest-", dir=output.parent) as scratch:
        folder, cohort = _fetch(source, Path(scratch), seed)
        pairs, problems = _pairs(folder, masks)
        patients = patients_of((pair.case_id for pair in pairs), folder)
        with written_whole(output) as artifact:
            artifact.mkdir()
            copied = each_case(partial(_copied_or_problem, artifact=artifact, label=label), pairs, "ingested", workers)
            problems += [problem for problem in copied if isinstance(problem, str)]
            if problems:
                raise CohortError(f"{source}: {listed(problems)}")
            cases = [_named(case, cohort, patients) for case in copied if isinstance(case, Case)]
            write_cases(artifact, cases)
    return cases


def _fetch(source: str, scratch: Path, seed: int) -> tuple[Path, str]:
    """The source as a local folder, and the name of its cohort."""
    name, _, count = source.partition(":")
    if name == PHANTOM:
        if not re.fullmatch(r"[1-9]\d{0,3}", count):
            raise InputError(f"source {source!r}: expected phantom:<cases> with a whole number, such as phantom:12")
        from components.ct.phantom import write_cohort

        write_cohort(scratch, int(count), seed)
        return scratch, PHANTOM
    if not source:
        raise InputError("no source given; expected a folder of scans and masks, or phantom:12")
    folder = Path(source).expanduser()
    return folder, re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name) or "cohort"


def _pairs(folder: Path, masks: str) -> tuple[list[Pair], list[str]]:
    scan_folder, mask_folder = find_folders(folder, masks)
    pairs, problems = pair_by_name(volumes_in(scan_folder), volumes_in(mask_folder))
    if not pairs:
        raise CohortError(f"{folder}: no scan has a mask of its name: {listed(problems)}")
    return pairs, problems


def _copied_or_problem(pair: Pair, artifact: Path, label: int) -> Case | str:
    try:
        return _copy(pair, artifact, label)
    except VolumeError as error:
        return f"case {pair.case_id}: {error}"


def _copy(pair: Pair, artifact: Path, label: int) -> Case:
    scan_name, mask_name = f"scans/{pair.case_id}.nii.gz", f"masks/{pair.case_id}.nii.gz"
    scan = read_stored(pair.scan)
    intensity = detect_intensity(scan.scaled())
    write_without_free_text(artifact / scan_name, scan)
    del scan  # one volume at a time
    mask = read_stored(pair.mask)
    lesion = binary_lesion(mask.scaled(), label)
    write_without_free_text(artifact / mask_name, mask if lesion is None else as_mask(mask, lesion))
    return Case(
        case_id=pair.case_id,
        patient_id=pair.case_id,
        source="",
        scan=scan_name,
        mask=mask_name,
        intensity=intensity.value,
        sha256_scan=sha256_of(artifact / scan_name),
        sha256_mask=sha256_of(artifact / mask_name),
    )


def _named(case: Case, cohort: str, patients: dict[str, str]) -> Case:
    origin = next((known for known in _KNOWN_COHORTS if case.case_id.startswith(f"{known}_")), cohort)
    return replace(case, source=origin, patient_id=patients[case.case_id])
