"""Find the scans in a folder: NIfTI files, and subfolders that hold a DICOM series."""

import re
from collections.abc import Iterator
from pathlib import Path

from components.runtime.errors import CohortError

NIFTI_SUFFIXES = (".nii.gz", ".nii")
_PREAMBLE_BYTES, _MAGIC = 128, b"DICM"  # DICOM PS3.10, 7.1


def find_scans(folder: Path, *, recursive: bool = False) -> list[Path]:
    """Find NIfTI files, and the DICOM series directly inside a folder, sorted by path.

    Args:
        folder: the folder to search; hidden files and `__MACOSX` are skipped.
        recursive: also search subfolders for NIfTI files.

    Raises:
        CohortError: the folder holds no scans.
    """
    series = [path for path in folder.iterdir() if not _is_hidden(path, folder) and is_dicom_series(path)]
    scans = sorted([*_nifti_files(folder, recursive), *series])
    if not scans:
        raise CohortError(
            f"{folder}: no scans here ({_describe(folder)}); expected .nii or .nii.gz files, or folders of DICOM files"
        )
    return scans


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
    return folder.is_dir() and any(_is_dicom(path) for path in series_files(folder))


def series_files(folder: Path) -> list[Path]:
    """List the files of a DICOM series, sorted by name, without hidden files and the DICOMDIR index."""
    files = (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return sorted(path for path in files if path.name.upper() != "DICOMDIR")


def _nifti_files(folder: Path, recursive: bool) -> Iterator[Path]:
    return (path for path in _files(folder, recursive) if is_nifti_name(path.name))


def _files(folder: Path, recursive: bool) -> Iterator[Path]:
    paths = folder.rglob("*") if recursive else folder.iterdir()
    return (path for path in paths if path.is_file() and not _is_hidden(path, folder))


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.relative_to(folder).parts)


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(_PREAMBLE_BYTES + len(_MAGIC)).endswith(_MAGIC)
    except OSError:
        return False


def _describe(folder: Path) -> str:
    """Count a folder's other files by suffix, because file names may identify patients."""
    suffixes = [path.suffix or "none" for path in _files(folder, recursive=True)]
    return f"it holds {len(suffixes)} other files: {', '.join(sorted(set(suffixes)))}" if suffixes else "it is empty"
