"""Fetch a cohort from its source into a local folder, or list the source without fetching it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from components.ct.scan_folder import (
    find_nifti_files,
    find_scans,
    is_hidden,
    is_nifti_name,
    is_slice_name,
    series_files,
)
from components.ingest.cohort_folder import LayoutError, find_folders, list_files, match_folders
from components.ingest.patients import find_patient_table
from components.ingest.zenodo import COVID_CT_SEG, Record, fetch_record
from components.runtime.errors import CohortError, InputError
from components.runtime.seed import check_seed
from components.storage.gcs_uri import GcsUri, find_invalid_part, is_gcs_uri
from components.storage.http import RetryPolicy

PHANTOM, ZENODO, GCS = "phantom", "zenodo", "gs"


@dataclass(frozen=True)
class FetchOptions:
    """Options for fetching a remote source."""

    cache: Path | None = None  # keeps downloads for the next run
    record: Record = COVID_CT_SEG  # archives of the source `zenodo`
    retry_policy: RetryPolicy | None = None  # None uses the defaults


class Cohort(NamedTuple):
    """A source as a local folder of scans and masks."""

    folder: Path
    name: str
    files: list[str]  # all of the source, also those that were not fetched, relative to it
    address: str  # of the source, for messages
    table: str | None = None  # of patients, one of the files

    def name_source(self, message: str) -> str:
        """Replace the local folder in a message by the address that the user gave."""
        return message.replace(str(self.folder), self.address)


def fetch_cohort(source: str, scratch: Path, *, masks: str, seed: int, options: FetchOptions) -> Cohort:
    """Make a source available as a local folder.

    Args:
        source: a folder; `gs://bucket/prefix`; `zenodo`, or `zenodo:<address>` for a mirror of its archives; or
            `phantom:<cases>`.
        scratch: an empty folder for downloads and synthetic scans.
        masks: name of the folder of masks.
        seed: random seed of the phantom.
        options: cache, record and retries of remote sources.

    Raises:
        InputError: the source is invalid, missing or unreachable.
    """
    kind, rest = _split_source(source)
    if kind == PHANTOM:
        from components.ct.phantom import write_cohort

        check_seed(seed)
        write_cohort(scratch, _parse_case_count(source, rest), seed)
        files = list_files(scratch)
        return Cohort(scratch, PHANTOM, files, source, find_patient_table(source, files))
    if kind == ZENODO:
        record = options.record.with_base_url(rest) if rest else options.record
        fetch_record(record, scratch / "cohort", (options.cache or scratch) / ZENODO, masks, options.retry_policy)
        return Cohort(scratch / "cohort", ZENODO, list_files(scratch / "cohort"), source)
    if kind == GCS:
        return _fetch_bucket(source, scratch, masks, options)
    folder = Path(source).expanduser()
    find_folders(folder, masks)  # before listing what may be a whole disk
    files = list_files(folder)
    table = find_patient_table(str(folder), files)
    return Cohort(folder, _safe_name(folder.resolve().name), files, str(folder), table)


def list_cohort(source: str, *, masks: str) -> list[str]:
    """List the files that `fetch_cohort` would fetch, without reading them.

    Returns:
        A line for each file: its name, and generation and CRC32C in a bucket, the published digest on Zenodo, or size
        and times in a folder. A phantom has one line, its name.

    Raises:
        InputError: the source is invalid or missing.
    """
    kind, rest = _split_source(source)
    if kind == PHANTOM:
        return [f"{PHANTOM} {_parse_case_count(source, rest)}"]
    if kind == ZENODO:
        return [f"{name} {COVID_CT_SEG.sha256[name]}" for name in COVID_CT_SEG.select(masks)]
    if kind == GCS:
        from components.storage.gcs import list_generations  # importing the client takes a second

        generations = list_generations(source)
        return [f"{name} {generations[name]}" for name in _select_names(source, generations, masks)]
    return _list_folder(Path(source).expanduser(), masks)


def check_source(source: str, masks: str, *, show_names: bool = True) -> None:
    """Check the name of a source and the layout of a local one, without any file or server.

    Raises:
        InputError: the source is invalid or missing; ingest raises the same message, without names if it has a key.
    """
    kind, rest = _split_source(source)
    if kind == PHANTOM:
        _parse_case_count(source, rest)
    elif kind == ZENODO:
        COVID_CT_SEG.select(masks)
        if rest and not rest.startswith(("https://", "http://")):
            raise InputError(f"source {source!r}: expected zenodo, or zenodo:<address> such as zenodo:https://mirror")
    elif kind == GCS:
        GcsUri.parse(source)
    else:
        try:
            find_folders(Path(source), masks)
        except LayoutError as error:
            raise CohortError(str(error) if show_names else error.public) from None


def _split_source(source: str) -> tuple[str, str]:
    if not source:
        raise InputError("source is empty; expected a folder of scans and masks, gs://bucket, zenodo or phantom:12")
    kind, _, rest = source.partition(":")
    if is_gcs_uri(source):
        return GCS, rest
    if kind != ZENODO and re.match(r"\w[\w+.-]+:/", source):
        raise InputError(f"{source}: not a source; expected a folder, gs://bucket/prefix, zenodo or zenodo:<address>")
    return kind, rest


def _parse_case_count(source: str, count: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,3}", count):
        expected = "phantom:<cases> with a whole number from 1 to 9999, such as phantom:12"
        raise InputError(f"source {source!r}: expected {expected}")
    return int(count)


def _fetch_bucket(uri: str, scratch: Path, masks: str, options: FetchOptions) -> Cohort:
    from components.storage.gcs import DEADLINE_S, download_prefix, list_generations  # the client takes a second

    location = GcsUri.parse(uri)
    cache = (options.cache or scratch) / GCS / location.bucket / location.prefix
    deadline_s = options.retry_policy.stall_timeout_s if options.retry_policy else DEADLINE_S
    folder = scratch / "cohort"
    files = list(list_generations(uri, deadline_s=deadline_s))
    selected = {*_select_names(uri, files, masks)}
    # Link only the listed objects: the cache may hold others from earlier runs.
    for name in download_prefix(uri, cache, include=selected.__contains__, deadline_s=deadline_s):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to((cache / name).absolute())
    name = _safe_name(location.prefix.rpartition("/")[2] or location.bucket)
    files = list(filter(_is_visible, files))
    return Cohort(folder, name, files, location.join(), find_patient_table(uri, files))


def _select_names(uri: str, names: Iterable[str], masks: str) -> list[str]:
    """Select the objects to fetch: scans, masks and the table of patients; `CohortError` if a folder is missing.

    Names that no file can have are left out, and refused if they may be those of scans or masks.
    """
    names = list(filter(_is_visible, names))
    folders = {name.partition("/")[0] for name in names if "/" in name}
    tops = tuple(f"{folder}/" for folder in match_folders(uri, folders, masks))  # of scans, then of masks
    for name in names:
        if name.startswith(tops) and (is_nifti_name(name) or (name.startswith(tops[0]) and is_slice_name(name))):
            GcsUri.parse(uri).check_file_name(name)
    table = find_patient_table(uri, names)
    selected = (name for name in names if name == table or name.startswith(tops))
    return [name for name in selected if find_invalid_part(name) is None]


def _is_visible(name: str) -> bool:
    """Whether no part of an object's name is hidden; the parts `.` and `..` are not."""
    return not is_hidden(PurePosixPath(*(part for part in name.split("/") if part != "..")))


def _list_folder(folder: Path, masks: str) -> list[str]:
    scan_folder, mask_folder = find_folders(folder, masks)
    scans, mask_files = find_scans(scan_folder, recursive=True), find_nifti_files(mask_folder, recursive=True)
    table = find_patient_table(str(folder), list_files(folder))
    paths = [*scans, *mask_files, *([folder / table] if table else [])]
    files = [file for path in paths for file in (series_files(path) if path.is_dir() else [path])]
    return [f"{file.relative_to(folder)} {_fingerprint(file)}" for file in files if file.is_file()]


def _fingerprint(file: Path) -> str:
    """Size, modification time and change time: a copy may keep the first two, but not the third."""
    status = file.stat()
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def _safe_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name) or "cohort"
