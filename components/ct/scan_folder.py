"""Find the scans in a folder: NIfTI files, and subfolders that hold a DICOM series, directly or nested as on a CD."""

import re
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from components.runtime.errors import CohortError

NIFTI_SUFFIXES = (".nii.gz", ".nii")
# COVID-19-CT-Seg_20cases: name of the Zenodo archive; ct_scans: its folder in the Kaggle mirror.
SCAN_FOLDERS = ("scans", "ct_scans", "COVID-19-CT-Seg_20cases")
_SLICE_SUFFIX = re.compile(r"(\.(dcm|dicom|dic|ima|\d+))?", re.IGNORECASE)  # .7: of an image number, or a UID
_PUBLIC_SUFFIXES = {
    *(".dcm", ".gz", ".hdr", ".ima", ".img", ".mha", ".mhd", ".nii", ".npy", ".npz", ".nrrd", ".zip"),
    *(".csv", ".jpeg", ".jpg", ".json", ".pdf", ".png", ".tif", ".tiff", ".txt", ".xlsx", ".xml"),
}
_PREAMBLE_BYTES, _MAGIC = 128, b"DICM"  # DICOM PS3.10, 7.1
_MAX_LENGTH = 256  # of the first element of a file without preamble


def find_scans(folder: Path, *, recursive: bool = False) -> list[Path]:
    """Find NIfTI files, and the subfolders that hold a DICOM series at any depth, sorted by path.

    Args:
        folder: the folder to search; hidden files and `__MACOSX` are skipped.
        recursive: also search subfolders for NIfTI files.

    Raises:
        CohortError: the folder holds no scans.
    """
    nifti_files = list(_nifti_files(folder, recursive))
    subfolders = (path for path in folder.iterdir() if path.is_dir() and not is_hidden(path.relative_to(folder)))
    series = [path for path in subfolders if series_files(path)]
    if not (nifti_files or series):
        raise CohortError(
            f"{folder}: no scans here ({_describe(folder)}); expected .nii or .nii.gz files, or folders of DICOM files"
        )
    return sorted([*nifti_files, *series])


def find_nifti_files(folder: Path, *, recursive: bool = False) -> list[Path]:
    """Find only NIfTI files, such as masks; otherwise like `find_scans`."""
    files = sorted(_nifti_files(folder, recursive))
    if not files:
        raise CohortError(f"{folder}: no volumes here ({_describe(folder)}); expected .nii or .nii.gz files")
    return files


def choose_scan_folder(source: str, files: Iterable[str], folders: Iterable[str]) -> str:
    """Choose the folder of a cohort's scans by its name; "" if there is none, or the source itself holds NIfTI files.

    Raises:
        CohortError: several folders match.
    """
    is_scan_folder = any("/" not in name and is_nifti_name(name) for name in files)
    matches = [] if is_scan_folder else sorted(match_names(folders, *SCAN_FOLDERS))
    if len(matches) > 1:
        raise CohortError(f"{source}: {' and '.join(matches)} both match; keep one")
    return matches[0] if matches else ""


def match_names(folders: Iterable[str], *names: str) -> list[str]:
    """Select the folders with one of the names, see `normalize_folder_name`."""
    normalized_names = {normalize_folder_name(name) for name in names}
    return [folder for folder in folders if normalize_folder_name(folder) in normalized_names]


def normalize_folder_name(name: str) -> str:
    """Reduce a folder's name to what is compared: without case, a plural `s`, spaces and dashes."""
    return name.casefold().replace("-", "_").replace(" ", "_").removesuffix("s")


def is_nifti_name(name: str) -> bool:
    """Whether a file name ends in `.nii` or `.nii.gz`, in either case."""
    return name.lower().endswith(NIFTI_SUFFIXES)


def scan_name(path: Path) -> str:
    """The name of a scan: the file's without its NIfTI suffix, or the folder's."""
    return re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)


def is_dicom_series(folder: Path) -> bool:
    """Whether a folder holds a DICOM file directly."""
    return folder.is_dir() and any(map(is_dicom_file, _slice_candidates(folder)))


def series_files(folder: Path) -> list[Path]:
    """List the files of a DICOM series, sorted by path.

    They are the DICOM files of the folder and its subfolders, without hidden ones and the DICOMDIR index. Files beside
    them that are named like a slice count, too: a damaged slice must not go unnoticed.
    """
    subfolders = (path for path in folder.rglob("*") if path.is_dir() and not is_hidden(path.relative_to(folder)))
    return sorted(
        file
        for path in (folder, *subfolders)
        if is_dicom_series(path)
        for file in _slice_candidates(path)
        if is_slice_name(file.name) or is_dicom_file(file)
    )


def public_suffix(name: str) -> str:
    """The suffix of a file name in lower case; "" for an unknown one, which may be part of a person's name."""
    suffix = PurePath(name).suffix.lower()
    return suffix if suffix in _PUBLIC_SUFFIXES else ""


def is_slice_name(name: str) -> bool:
    """Whether a file is named as slices are: without suffix, or with `.dcm`, a number or the like."""
    return bool(_SLICE_SUFFIX.fullmatch(PurePath(name).suffix))


def is_dicom_file(path: Path) -> bool:
    """Whether a file is DICOM: by its magic bytes, or without preamble by its first element."""
    try:
        with path.open("rb") as file:
            start = file.read(_PREAMBLE_BYTES + len(_MAGIC))
    except OSError:
        return False
    if start.endswith(_MAGIC) and len(start) > _PREAMBLE_BYTES:
        return True
    if len(start) < _PREAMBLE_BYTES:
        return False
    # Data sets start with the meta group 0002 or the identifying group 0008 in little endian (DICOM PS3.10, 7.1).
    group, element, length = struct.unpack_from("<HHI", start)
    is_explicit = start[4:6].isalpha() and start[4:6].isupper()
    return group in (0x0002, 0x0008) and element < 0x0100 and (is_explicit or length <= _MAX_LENGTH)


def _slice_candidates(folder: Path) -> list[Path]:
    files = (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return [path for path in files if path.name.upper() != "DICOMDIR"]


def _nifti_files(folder: Path, recursive: bool) -> Iterator[Path]:
    return (path for path in visible_files(folder, recursive=recursive) if is_nifti_name(path.name))


def visible_files(folder: Path, *, recursive: bool = False) -> Iterator[Path]:
    """Find the files of a folder, without hidden ones and `__MACOSX`."""
    paths = folder.rglob("*") if recursive else folder.iterdir()
    return (path for path in paths if path.is_file() and not is_hidden(path.relative_to(folder)))


def is_hidden(path: PurePath) -> bool:
    """Whether a part of a relative path starts with a dot or is `__MACOSX`."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def _describe(folder: Path) -> str:
    """Count a folder's other files by suffix, because file names may identify patients."""
    files = list(visible_files(folder, recursive=True))
    suffixes = ", ".join(sorted({public_suffix(path.name) or "other suffixes" for path in files}))
    count = "one other file" if len(files) == 1 else f"{len(files)} other files"
    if any(is_dicom_file(path) for path in files):
        return f"its {len(files)} files include loose DICOM files: move each series into a folder of its own"
    if any(path.suffix.lower() == ".zip" for path in files):
        return f"it holds {count}: {suffixes}; unpack archives"
    return f"it holds {count}: {suffixes}" if files else "it is empty"
