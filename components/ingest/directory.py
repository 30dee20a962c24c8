"""Where scans and masks lie in a cohort's folder, told by the names that its folders have."""

from pathlib import Path

from components.ct.dicom import is_series
from components.runtime.errors import CohortError

# COVID-19-CT-Seg_20cases: the Zenodo archive's name; ct_scans: its folder in the Kaggle mirror.
SCAN_FOLDERS = ("scans", "ct_scans", "COVID-19-CT-Seg_20cases")


def find_folders(source: Path, masks: str) -> tuple[Path, Path]:
    """The folder of scans and the folder of masks in `source`.

    Case, a plural's `s`, spaces and dashes do not matter: `infection_masks` also finds Zenodo's `Infection_Mask`
    and Kaggle's `infection_mask`, `lung_masks` finds `Lung_Mask`.

    Raises:
        CohortError: either is missing, or more than one folder could be meant.
    """
    if not source.is_dir():
        raise CohortError(
            f"{source}: no such folder; give one with {SCAN_FOLDERS[0]}/ and {masks}/, or gs://bucket/prefix, zenodo "
            "or phantom:12"
        )
    inside = sorted(path for path in source.iterdir() if path.is_dir() and not path.name.startswith("."))
    names = ", ".join(path.name for path in inside) or "no folders"
    scans = [path for path in inside if folder_key(path.name) in map(folder_key, SCAN_FOLDERS)]
    if not scans:
        raise CohortError(f"{source}: no folder of scans (found {names}); name it {', '.join(SCAN_FOLDERS[:2])}")
    found = [path for path in inside if path.name == masks] or [
        p for p in inside if folder_key(p.name) == folder_key(masks)
    ]
    if not found:
        raise CohortError(
            f"{source}: no folder of masks named {masks} (found {names}); add it, or set MASKS to the folder to use"
        )
    for several in (scans, found):
        if len(several) > 1:
            raise CohortError(f"{source}: {' and '.join(path.name for path in several)} could both be meant; keep one")
    return scans[0], found[0]


def volumes_in(folder: Path) -> list[Path]:
    """The NIfTI files in a folder and the folders below it, hidden ones left out.

    Raises:
        CohortError: there are none.
    """
    volumes = _nifti_in(folder)
    if not volumes:
        raise CohortError(f"{folder}: no .nii or .nii.gz files in it ({_held(folder)}); put the volumes there")
    return volumes


def scans_in(folder: Path) -> list[Path]:
    """The NIfTI files as above, and the folders directly inside that hold DICOM files: one series, one scan.

    Raises:
        CohortError: there are none.
    """
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    scans = _nifti_in(folder) + [path for path in inside if is_series(path)]
    if not scans:
        raise CohortError(
            f"{folder}: no .nii or .nii.gz files in it and no folders of DICOM files ({_held(folder)}); "
            "put the scans there"
        )
    return scans


def _nifti_in(folder: Path) -> list[Path]:
    return [path for path in _files_in(folder) if path.name.lower().endswith((".nii", ".nii.gz"))]


def _files_in(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and not _hidden(path.relative_to(folder))]


def _held(folder: Path) -> str:
    # Endings only: the names of files may name people.
    endings = sorted({path.suffix or "none" for path in _files_in(folder)})
    return (
        f"it holds {len(_files_in(folder))} other files, with endings {', '.join(endings)}"
        if endings
        else "it holds nothing"
    )


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def folder_key(name: str) -> str:
    """What of a folder's name counts."""
    return name.casefold().replace("-", "_").replace(" ", "_").removesuffix("s")
