"""Ingest a cohort: de-identified copies of its scans and masks, with the case table."""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from components.ct.cases import CASES_FILE, SKIPPED_FILE, Case, OnInvalid, write_cases, write_skipped
from components.ct.dicom import read_dicom_series
from components.ct.intensity import Intensity, detect_intensity
from components.ct.masks import BINARY_MASK, binarize_lesion
from components.ct.nifti import mask_like, read_nifti, write_deidentified
from components.ct.scan_folder import find_nifti_files, find_scans, series_files
from components.ct.volume import write_on_file_grid
from components.ingest.cohort_folder import find_folders, find_unused
from components.ingest.naming import Naming
from components.ingest.pairing import Pair, pair_by_name
from components.ingest.patients import assign_patients, write_patients
from components.ingest.sources import Cohort, FetchOptions, fetch_cohort
from components.runtime.errors import CohortError, InputError, VolumeError, join_problems
from components.runtime.files import atomic_folder, sha256_of
from components.runtime.workers import map_cases

_log = logging.getLogger(__name__)


def ingest(
    source: str,
    output: Path,
    *,
    masks: str = "infection_masks",
    label: int = BINARY_MASK,
    seed: int = 0,
    on_invalid: str = OnInvalid.FAIL,
    pseudonym_key: Path | None = None,
    push_to: str | None = None,
    options: FetchOptions | None = None,
    workers: int | None = None,
) -> list[Case]:
    """Copy a cohort into `output`: `scans/`, `masks/`, `cases.csv` and `patients.csv`, again a valid source.

    Copies keep voxels, grid, type and scaling, but not the free text and extensions of headers. A DICOM series becomes
    a NIfTI file in HU. A mask becomes 0 and 1 where its values define the lesion; otherwise it stays unchanged, and
    validate reports it. The same source gives the same bytes.

    Args:
        source: a folder, `gs://bucket/prefix`, `zenodo` or `phantom:<cases>`, see `fetch_cohort`.
        output: folder to write atomically.
        masks: name of the folder of masks, see `find_folders`.
        label: mask value of the lesion in masks with several labels; 0 for binary masks.
        seed: random seed of the phantom.
        on_invalid: `fail` at unpaired or unreadable cases, or `skip`, log and list them in `skipped.txt`.
        pseudonym_key: file with the key for pseudonyms of case and patient ids; None keeps names.
        push_to: `gs://bucket/prefix` for a second copy of the output, its case table last.
        options: cache, record and retries of remote sources.
        workers: number of cases to copy in parallel; by default the number of processors.

    Returns:
        The rows of the case table, ordered by case id.

    Raises:
        InputError: the source is unavailable, or parameters or cases are invalid; one line lists all cases.
    """
    skip = OnInvalid(on_invalid) is OnInvalid.SKIP
    if not 0 <= label <= 255:
        raise InputError(f"label: {label}; expected a mask value of 1 to 255, or 0 for binary masks")
    if push_to and not push_to.startswith("gs://"):
        raise InputError(f"push_to: {push_to!r}; expected gs://bucket/prefix or no value")
    naming = Naming.from_key_file(pseudonym_key)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".ingest-", dir=output.parent) as scratch:
        with naming.redact_source(source):
            cohort = fetch_cohort(source, Path(scratch), masks=masks, seed=seed, options=options or FetchOptions())
        pairs, problems, patients, unused = _plan(cohort, masks, naming)
        with atomic_folder(output) as artifact:
            copy = partial(_copy, artifact=artifact, label=label, naming=naming, patients=patients, cohort=cohort)
            results = map_cases(copy, pairs, "ingested", workers)
            problems += [result for result in results if isinstance(result, str)]
            cases = sorted((case for case in results if isinstance(case, Case)), key=lambda case: case.case_id)
            if problems and not (skip and cases):
                raise CohortError(f"{source}: {join_problems(problems)}{unused and f'; {unused}'}")
            if len({case.case_id for case in cases}) < len(cases):
                raise CohortError(f"{source}: two cases have the same id; rename one, or use another pseudonym key")
            _write_tables(artifact, cases, [*problems, *([unused] if unused else [])])
            if push_to:
                from components.storage.gcs import upload_folder  # importing the client takes a second

                _log.info("%s: %d files of the cohort", push_to, len(upload_folder(artifact, push_to, last=CASES_FILE)))
    return cases


class _Plan(NamedTuple):
    pairs: list[Pair]
    problems: list[str]
    patients: dict[str, str]  # of each case
    unused: str  # files of the source that are not used, in one line; empty if all are


def _plan(cohort: Cohort, masks: str, naming: Naming) -> _Plan:
    """Pair the files of a cohort by name, without reading them, and assign the patients."""
    folder = cohort.folder
    try:
        scan_folder, mask_folder = find_folders(folder, masks)
        scans, mask_files = find_scans(scan_folder, recursive=True), find_nifti_files(mask_folder, recursive=True)
        naming.register([*scans, *mask_files], folder)
        files = [file for path in (*scans, *mask_files) for file in (series_files(path) if path.is_dir() else [path])]
        used = {file.relative_to(folder).as_posix() for file in files} | {cohort.table or "", CASES_FILE, SKIPPED_FILE}
        unused = naming.list_files(find_unused(cohort.files, used))
        if unused:
            unused = f"not used: {unused} (scans and masks are .nii, .nii.gz, or a folder of DICOM files for each scan)"
        pairs, problems = pair_by_name(scans, mask_files)
        problems = [naming.redact(problem) for problem in problems]
        if not pairs:
            found = join_problems([*problems, *([unused] if unused else [])])
            raise CohortError(f"{folder}: no scan has a mask of the same name: {found}")
        patients = assign_patients(
            [pair.case_id for pair in pairs], folder / cohort.table if cohort.table else None, naming.case_names
        )
    except InputError as error:
        raise type(error)(cohort.name_source(str(error))) from None
    return _Plan(pairs, problems, patients, unused)


def _copy(
    pair: Pair, *, artifact: Path, label: int, naming: Naming, patients: Mapping[str, str], cohort: Cohort
) -> Case | str:
    """Copy a case and return its row of the case table, or the problem with its files."""
    case_id = naming.case_id(pair.case_id)
    scan, mask = f"scans/{case_id}.nii.gz", f"masks/{case_id}.nii.gz"
    try:
        intensity = _copy_scan(pair.scan, artifact / scan)
        _copy_mask(pair.mask, artifact / mask, label)
    except VolumeError as error:
        for name in (scan, mask):
            (artifact / name).unlink(missing_ok=True)
        return f"case {case_id}: {cohort.name_source(naming.redact(str(error)))}"
    return Case(
        case_id=case_id,
        patient_id=naming.patient_id(patients[pair.case_id]),
        site=naming.site(pair.case_id, cohort.name),
        scan=scan,
        mask=mask,
        intensity=intensity.value,
        sha256_scan=sha256_of(artifact / scan),
        sha256_mask=sha256_of(artifact / mask),
    )


# One volume at a time is in memory: each function frees its own on return.
def _copy_scan(source: Path, target: Path) -> Intensity:
    if source.is_dir():
        volume = read_dicom_series(source)
        write_on_file_grid(target, volume.voxels, volume.file_grid)
        return detect_intensity(volume.voxels)
    scan = read_nifti(source)
    intensity = detect_intensity(scan.scaled_voxels())
    write_deidentified(target, scan)
    return intensity


def _copy_mask(source: Path, target: Path, label: int) -> None:
    mask = read_nifti(source)
    lesion = binarize_lesion(mask.scaled_voxels(), label)
    write_deidentified(target, mask if lesion is None else mask_like(mask, lesion))


def _write_tables(artifact: Path, cases: Sequence[Case], skipped: Sequence[str]) -> None:
    write_skipped(artifact, skipped)
    write_cases(artifact, cases)
    write_patients(artifact, {case.case_id: case.patient_id for case in cases})
