"""A source of scans and masks to an artifact of clean copies with the case table."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from components.ct.cases import TABLE, Case, write_cases
from components.ct.dicom import read_dicom_series
from components.ct.intensity import Intensity, detect_intensity
from components.ct.labels import ANY_LABEL, binarize_lesion
from components.ct.nifti import mask_like, read_nifti, write_deidentified
from components.ct.scan_folder import find_nifti_files, find_scans
from components.ct.volume import write_on_file_grid
from components.ingest.directory import find_folders
from components.ingest.naming import Naming
from components.ingest.pairing import Pair, pair_by_name
from components.ingest.patients import patients_of, write_patients
from components.ingest.sources import Fetching, fetch_cohort
from components.runtime.errors import CohortError, InputError, VolumeError, join_problems
from components.runtime.files import atomic_write, sha256_of
from components.runtime.workers import map_cases

POLICIES = ("fail", "skip")
SKIPPED = "skipped.txt"


def ingest(
    source: str,
    output: Path,
    *,
    masks: str = "infection_masks",
    label: int = ANY_LABEL,
    seed: int = 0,
    on_invalid: str = "fail",
    pseudonym_key: Path | None = None,
    push_to: str = "",
    fetching: Fetching | None = None,
    workers: int | None = None,
) -> list[Case]:
    """Copy a cohort into `output`: `scans/`, `masks/` and `cases.csv`, all of it or nothing; a source in turn.

    The copies have the source's voxels, grid, type and scaling, without the header's free text and extensions; a
    DICOM series becomes a NIfTI file in HU. Masks that say which voxels are lesion are copied as uint8 of 0 and 1;
    others as they are, for validate to report. The same source gives the same bytes.

    Args:
        source: a folder, `gs://bucket/prefix`, `zenodo` or `phantom:<cases>`, see `fetch_cohort`.
        output: folder to write.
        masks: name of the folder of masks, see `find_folders`.
        label: the value that is the lesion, in masks with several labels; 0 takes binary masks.
        seed: of the phantom.
        on_invalid: what a case does that does not pair or cannot be read: `fail` the run, or `skip` it, which
            prints it and lists it in `skipped.txt`.
        pseudonym_key: file with the key under which case and patient ids become keyed hashes; None keeps names.
        push_to: `gs://bucket/prefix` that the output is copied to as well, its case table last; empty for none.
        fetching: how sources elsewhere are fetched.
        workers: cases copied at the same time; by default as many as there are processors.

    Returns:
        The case table's rows, ordered by case id.

    Raises:
        InputError: a source that cannot be had, or cases that do not pair or cannot be read, all of them in one line.
    """
    _check(label, on_invalid, push_to)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".ingest-", dir=output.parent) as scratch:
        naming = Naming.read(pseudonym_key)
        with naming.redact_object_names(source):
            cohort = fetch_cohort(source, Path(scratch), masks=masks, seed=seed, fetching=fetching or Fetching())
        pairs, problems = _pairs(cohort.folder, masks, naming)
        patients = patients_of((pair.case_id for pair in pairs), cohort.folder, naming.seen)
        with atomic_write(output) as artifact:
            artifact.mkdir()
            copy = partial(_copied_or_problem, artifact=artifact, label=label, naming=naming)
            copied = map_cases(copy, pairs, "ingested", workers)
            problems += [problem for problem in copied if isinstance(problem, str)]
            cases = [
                replace(
                    case,
                    site=naming.origin(pair.case_id, cohort.name),
                    patient_id=naming.patient_id(patients[pair.case_id], pair.case_id),
                )
                for case, pair in zip(copied, pairs, strict=True)
                if isinstance(case, Case)
            ]
            _settle(problems, cases, source, on_invalid, artifact)
            write_cases(artifact, cases)
            write_patients(artifact, {case.case_id: case.patient_id for case in cases})
            if push_to:
                _push(artifact, push_to)
    return sorted(cases, key=lambda case: case.case_id)


def _check(label: int, on_invalid: str, push_to: str) -> None:
    if not 0 <= label <= 255:
        raise InputError(f"label is {label}; expected a mask value of 1 to 255, or 0 for masks of one lesion")
    if on_invalid not in POLICIES:
        raise InputError(f"on_invalid is {on_invalid!r}; expected {' or '.join(POLICIES)}")
    if push_to and not push_to.startswith("gs://"):
        raise InputError(f"push_to is {push_to!r}; expected gs://bucket/prefix, or nothing")


def _push(artifact: Path, uri: str) -> None:
    from components.storage.gcs import upload_folder  # the client takes a second to import

    names = upload_folder(artifact, uri, last=TABLE)
    print(f"{uri}: holds the {len(names)} files of the cohort", flush=True)


def _pairs(folder: Path, masks: str, naming: Naming) -> tuple[list[Pair], list[str]]:
    scan_folder, mask_folder = find_folders(folder, masks)
    scans, masks_found = find_scans(scan_folder, recursive=True), find_nifti_files(mask_folder, recursive=True)
    naming.see((*scans, *masks_found))
    pairs, problems = pair_by_name(scans, masks_found)
    problems = [naming.hidden(problem) for problem in problems]
    if not pairs:
        raise CohortError(f"{folder}: no scan has a mask of its name: {join_problems(problems)}")
    return pairs, problems


def _settle(problems: Sequence[str], cases: Sequence[Case], source: str, on_invalid: str, artifact: Path) -> None:
    """Fail for the problems, or list them and go on."""
    if problems and (on_invalid == "fail" or not cases):
        raise CohortError(f"{source}: {join_problems(problems)}")
    if problems:
        for problem in problems:
            print(f"skipped: {problem}", flush=True)
        (artifact / SKIPPED).write_text("\n".join(problems) + "\n")
    if len({case.case_id for case in cases}) < len(cases):
        raise CohortError(f"{source}: two cases have one pseudonym; use another key")


def _copied_or_problem(pair: Pair, artifact: Path, label: int, naming: Naming) -> Case | str:
    case_id = naming.case_id(pair.case_id)
    try:
        return _copy(pair, case_id, artifact, label)
    except VolumeError as error:
        for name in ("scans", "masks"):
            (artifact / name / f"{case_id}.nii.gz").unlink(missing_ok=True)
        return f"case {case_id}: {naming.hidden(str(error))}"


def _copy(pair: Pair, case_id: str, artifact: Path, label: int) -> Case:
    scan_name, mask_name = f"scans/{case_id}.nii.gz", f"masks/{case_id}.nii.gz"
    intensity = _copy_scan(pair.scan, artifact / scan_name)
    mask = read_nifti(pair.mask)
    lesion = binarize_lesion(mask.scaled(), label)
    write_deidentified(artifact / mask_name, mask if lesion is None else mask_like(mask, lesion))
    return Case(
        case_id=case_id,
        patient_id=case_id,
        site="",
        scan=scan_name,
        mask=mask_name,
        intensity=intensity.value,
        sha256_scan=sha256_of(artifact / scan_name),
        sha256_mask=sha256_of(artifact / mask_name),
    )


def _copy_scan(scan: Path, target: Path) -> Intensity:
    """Copy a NIfTI file or a DICOM series; one volume is in memory, and gone when this returns."""
    if scan.is_dir():
        volume = read_dicom_series(scan)
        write_on_file_grid(target, volume.voxels, volume.file_grid)
        return detect_intensity(volume.voxels)
    stored = read_nifti(scan)
    intensity = detect_intensity(stored.scaled())
    write_deidentified(target, stored)
    return intensity
