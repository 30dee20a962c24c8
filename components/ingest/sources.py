"""The sources that a cohort can come from: each brought to a local folder of scans and masks, or only listed."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from components.ct.scan_folder import find_nifti_files, find_scans
from components.ingest.directory import SCAN_FOLDERS, find_folders, folder_key
from components.ingest.patients import PATIENTS
from components.ingest.zenodo import COVID_CT_SEG, Record, fetch_record
from components.runtime.errors import InputError
from components.storage.gcs_uri import GcsUri
from components.storage.http import RetryPolicy

PHANTOM, ZENODO, GCS = "phantom", "zenodo", "gs"
EXAMPLES = "a folder of scans and masks, gs://bucket/prefix, zenodo, or phantom:12"


@dataclass(frozen=True)
class Fetching:
    """How sources elsewhere are fetched.

    Attributes:
        cache: folder where downloads are kept for the next run; none where absent.
        record: what the source `zenodo` stands for.
        retry_policy: how long to wait for a server; its own defaults where absent.
    """

    cache: Path | None = None
    record: Record = COVID_CT_SEG
    retry_policy: RetryPolicy | None = None


@dataclass(frozen=True)
class Cohort:
    """A local folder of scans and masks, and what to call it."""

    folder: Path
    name: str


def fetch_cohort(
    source: str,
    scratch: Path,
    *,
    masks: str,
    seed: int = 0,
    fetching: Fetching,
) -> Cohort:
    """Bring a source to a local folder.

    Args:
        source: a folder; `gs://bucket/prefix`; `zenodo`, or `zenodo:<address>` for a mirror of its archives; or
            `phantom:<cases>`.
        scratch: an empty folder for what is fetched or made.
        masks: name of the folder of masks.
        seed: of the phantom.
        fetching: how what lies elsewhere is fetched.

    Raises:
        InputError: the source cannot be had.
    """
    kind, rest = _parsed(source)
    if kind == PHANTOM:
        return _phantom(source, rest, scratch, seed)
    if kind == ZENODO:
        record = fetching.record.at(rest) if rest else fetching.record
        fetch_record(record, scratch / "cohort", (fetching.cache or scratch) / ZENODO, masks, fetching.retry_policy)
        return Cohort(scratch / "cohort", ZENODO)
    if kind == GCS:
        return _gcs(source, scratch, masks, fetching)
    folder = Path(source).expanduser()
    return Cohort(folder, _plain_name(folder.resolve().name))


def list_cohort(source: str, *, masks: str) -> list[str]:
    """List what `fetch_cohort` would bring, without fetching it.

    Args:
        source: as for `fetch_cohort`.
        masks: name of the folder of masks.

    Returns:
        A line for each file: its name, and what is another where its content is another. That is the generation and
        CRC32C in a bucket, the published digest on Zenodo, size and times in a folder; a phantom is its own name.

    Raises:
        InputError: the source is not there, in the words of `fetch_cohort` and `find_folders`.
    """
    kind, rest = _parsed(source)
    if kind == PHANTOM:
        return [f"{PHANTOM} {_case_count(source, rest)}"]
    if kind == ZENODO:
        return [f"{name} {COVID_CT_SEG.sha256[name]}" for name in COVID_CT_SEG.archives(masks)]
    if kind == GCS:
        from components.storage.gcs import list_versions  # the client takes a second to import

        return [" ".join(item) for item in list_versions(source, wanted=_is_wanted(masks)).items()]
    return _list_folder(Path(source).expanduser(), masks)


def _stamp(file: Path) -> str:
    """Size and times of a file, without reading it.

    The time of change is among them: copies and archives may keep a file's own time, and volumes of one shape its size.
    """
    status = file.stat()
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def _parsed(source: str) -> tuple[str, str]:
    """The kind of a source, and what follows it."""
    if not source:
        raise InputError(f"no source given; expected {EXAMPLES}")
    kind, _, rest = source.partition(":")
    return kind, rest


def _case_count(source: str, count: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,3}", count):
        raise InputError(f"source {source!r}: expected phantom:<cases> with a whole number, such as phantom:12")
    return int(count)


def _phantom(source: str, count: str, scratch: Path, seed: int) -> Cohort:
    cases = _case_count(source, count)
    from components.ct.phantom import write_cohort

    write_cohort(scratch, cases, seed)
    return Cohort(scratch, PHANTOM)


def _gcs(uri: str, scratch: Path, masks: str, fetching: Fetching) -> Cohort:
    from components.storage.gcs import DEADLINE_S, download_prefix  # the client takes a second to import

    place = GcsUri.parse(uri)
    kept = (fetching.cache or scratch) / GCS / place.bucket / place.prefix
    deadline_s = fetching.retry_policy.stall_timeout_s if fetching.retry_policy else DEADLINE_S
    names = download_prefix(uri, kept, wanted=_is_wanted(masks), deadline_s=deadline_s)
    folder = scratch / "cohort"
    _link(kept, names, folder)
    return Cohort(folder, _plain_name(place.prefix.rpartition("/")[2] or place.bucket))


def _is_wanted(masks: str) -> Callable[[str], bool]:
    """Whether an object, by its name below the prefix, is one of the scans, of the masks, or the table of patients."""
    folders = {folder_key(name) for name in (*SCAN_FOLDERS, masks)}
    return lambda name: name == PATIENTS or folder_key(name.partition("/")[0]) in folders


def _list_folder(folder: Path, masks: str) -> list[str]:
    scan_folder, mask_folder = find_folders(folder, masks)
    found = [
        *find_scans(scan_folder, recursive=True),
        *find_nifti_files(mask_folder, recursive=True),
        folder / PATIENTS,
    ]
    files = [file for path in found for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    return [f"{file.relative_to(folder)} {_stamp(file)}" for file in files if file.is_file()]


def _link(kept: Path, names: Iterable[str], folder: Path) -> None:
    """A folder of what was listed just now: the cache may hold more from earlier."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to((kept / name).absolute())


def _plain_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name) or "cohort"
