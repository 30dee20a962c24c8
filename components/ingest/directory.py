"""Where scans and masks lie in a cohort's folder, told by the names that its folders have."""

from pathlib import Path

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


def folder_key(name: str) -> str:
    """What of a folder's name counts."""
    return name.casefold().replace("-", "_").replace(" ", "_").removesuffix("s")
