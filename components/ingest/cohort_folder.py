"""The layout of a cohort: a folder of scans, a folder of masks, and files that are not used."""

from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

from components.ct.scan_folder import SCAN_FOLDERS, match_names, visible_files
from components.runtime.errors import CohortError


def find_folders(source: Path, masks: str) -> tuple[Path, Path]:
    """Find the folder of scans and the folder of masks in a local folder, as `match_folders` does by their names.

    Raises:
        CohortError: one of them is missing, or several folders match.
    """
    if not source.is_dir():
        raise CohortError(
            f"{source}: no such folder; expected one with {SCAN_FOLDERS[0]}/ and {masks}/, or gs://bucket/prefix, "
            "zenodo or phantom:12"
        )
    scans, mask_folder = match_folders(str(source), (path.name for path in source.iterdir() if path.is_dir()), masks)
    return source / scans, source / mask_folder


def match_folders(source: str, folders: Iterable[str], masks: str) -> tuple[str, str]:
    """Choose the folder of scans and the folder of masks among the names of a source's folders.

    Names match regardless of case, a plural `s`, spaces and dashes: `infection_masks` also finds Zenodo's
    `Infection_Mask` and Kaggle's `infection_mask`. An exact match of `masks` wins.

    Raises:
        CohortError: one of them is missing, both are one, or several folders match.
    """
    folders = sorted(name for name in folders if not name.startswith("."))
    names = ", ".join(folders) or "no folders"
    scan_folders = match_names(folders, *SCAN_FOLDERS)
    mask_folders = [name for name in folders if name == masks] or match_names(folders, masks)
    if not scan_folders:
        raise CohortError(f"{source}: no folder of scans (found {names}); name it {' or '.join(SCAN_FOLDERS[:2])}")
    if not mask_folders:
        raise CohortError(f"{source}: no folder of masks named {masks} (found {names}); add it, or set MASKS")
    for matches in (scan_folders, mask_folders):
        if len(matches) > 1:
            raise CohortError(f"{source}: {' and '.join(matches)} both match; keep one")
    if scan_folders == mask_folders:
        raise CohortError(f"{source}: masks {masks!r} is the folder of scans (found {names}); set MASKS to another one")
    return scan_folders[0], mask_folders[0]


def list_files(folder: Path) -> list[str]:
    """List the files below a folder, relative to it and sorted, without hidden ones."""
    return sorted(path.relative_to(folder).as_posix() for path in visible_files(folder, recursive=True))


def find_unused(names: Iterable[str], used: Collection[str]) -> list[str]:
    """List the files of a source that are not used, those of a wholly unused folder together.

    Args:
        names: the source's files, relative to it.
        used: those that are used.
    """
    used_folders = {parent for name in used for parent in PurePosixPath(name).parents}
    counts: Counter[str] = Counter()
    for name in names:
        if name not in used:
            unused_folders = [parent for parent in PurePosixPath(name).parents if parent not in used_folders]
            counts[f"{unused_folders[-1]}/" if unused_folders else name] += 1
    return [f"{name} ({count} files)" if count > 1 else name for name, count in sorted(counts.items())]
