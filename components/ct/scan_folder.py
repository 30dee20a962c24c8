"""Find the scans in a folder: NIfTI files, and subfolders that hold a DICOM series, directly or nested as on a CD."""

import re
import struct
from collections.abc import Iterator
from pathlib import Path

from components.runtime.errors import CohortError

NIFTI_SUFFIXES = (".nii.gz", ".nii")
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
    subfolders = (path for path in folder.iterdir() if path.is_dir() and not _is_hidden(path, folder))
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

    They are all files of the folder and of its subfolders that hold a DICOM file, without hidden files and the DICOMDIR
    index. Other subfolders, such as the viewer of a CD, are ignored.
    """
    subfolders = (path for path in folder.rglob("*") if path.is_dir() and not _is_hidden(path, folder))
    return sorted(file for path in (folder, *subfolders) if is_dicom_series(path) for file in _slice_candidates(path))


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
    return (path for path in _files(folder, recursive) if is_nifti_name(path.name))


def _files(folder: Path, recursive: bool) -> Iterator[Path]:
    paths = folder.rglob("*") if recursive else folder.iterdir()
    return (path for path in paths if path.is_file() and not _is_hidden(path, folder))


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.relative_to(folder).parts)


def _describe(folder: Path) -> str:
    """Count a folder's other files by suffix, because file names may identify patients."""
    files = list(_files(folder, recursive=True))
    suffixes = ", ".join(sorted({path.suffix or "none" for path in files}))
    if any(is_dicom_file(path) for path in files):
        return f"its {len(files)} files include loose DICOM files: move each series into a folder of its own"
    if any(path.suffix.lower() == ".zip" for path in files):
        return f"it holds {len(files)} other files: {suffixes}; unpack archives"
    return f"it holds {len(files)} other files: {suffixes}" if files else "it is empty"
