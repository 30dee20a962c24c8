"""The layout of a cohort: a folder of scans, a folder of masks, and files that are not used."""

from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

from components.ct.scan_folder import SCAN_FOLDERS, is_hidden, match_names
from components.runtime.errors import CohortError

_MAX_ALIKE = 5  # unused files of one folder and suffix that are named one by one


class LayoutError(CohortError):
    """The layout of a cohort is wrong; `public` is the message without the names of its folders."""

    def __init__(self, message: str, public: str = ""):
        super().__init__(message)
        self.public = public


def find_folders(source: Path, masks: str) -> tuple[Path, Path]:
    """Find the folder of scans and the folder of masks in a local folder, as `match_folders` does by their names.

    Raises:
        CohortError: one of them is missing, or several folders match.
    """
    if not source.is_dir():
        found = "is a file" if source.is_file() else "no such folder"
        raise CohortError(
            f"{source}: {found}; expected a folder with {SCAN_FOLDERS[0]}/ and {masks}/, or gs://bucket/prefix, zenodo "
            "or phantom:12"
        )
    scans, mask_folder = match_folders(str(source), (path.name for path in source.iterdir() if path.is_dir()), masks)
    return source / scans, source / mask_folder


def match_folders(source: str, folders: Iterable[str], masks: str) -> tuple[str, str]:
    """Choose the folder of scans and the folder of masks among the names of a source's folders.

    Names match regardless of case, a plural `s`, spaces and dashes: `infection_masks` also finds Zenodo's
    `Infection_Mask` and Kaggle's `infection_mask`. An exact match of `masks` wins.

    Raises:
        CohortError: one of them is missing, both are one (`LayoutError`), or several folders match.
    """
    folders = sorted(name for name in folders if name and not name.startswith("."))
    found = [f"found {', '.join(folders) or 'no folders'}", f"found {len(folders)} folder{'s' * (len(folders) != 1)}"]
    scan_folders = match_names(folders, *SCAN_FOLDERS)
    mask_folders = [name for name in folders if name == masks] or match_names(folders, masks)
    if not scan_folders:
        expected = " or ".join(SCAN_FOLDERS[:2])
        raise LayoutError(*(f"{source}: no folder of scans ({names}); name it {expected}" for names in found))
    if not mask_folders:
        problem = f"{source}: no folder of masks named {masks}"
        raise LayoutError(*(f"{problem} ({names}); add it, or set MASKS" for names in found))
    for matches in (scan_folders, mask_folders):
        if len(matches) > 1:
            raise CohortError(f"{source}: {' and '.join(matches)} both match; keep one")
    if scan_folders == mask_folders:
        problem = f"{source}: masks {masks!r} is the folder of scans"
        raise LayoutError(*(f"{problem} ({names}); set MASKS to another one" for names in found))
    return scan_folders[0], mask_folders[0]


def list_files(folder: Path) -> list[str]:
    """List the files below a folder, relative to it and sorted, without hidden ones.

    Links to folders are listed, and followed directly in `folder`. So are folders without files, with a slash.
    """
    paths = [path for top in folder.glob("*") for path in (top, *top.rglob("*"))]
    names = {path.relative_to(folder): path.is_dir() for path in paths if not is_hidden(path.relative_to(folder))}
    parents = {name.parent for name in names}
    return sorted(f"{name.as_posix()}{'/' * is_folder}" for name, is_folder in names.items() if name not in parents)


def find_unused(names: Iterable[str], used: Collection[str]) -> dict[str, int]:
    """Count the files of a source that are not used: a wholly unused folder, and many files of one suffix, together.

    Args:
        names: the source's files, relative to it.
        used: those that are used.
    """
    used_folders = {parent for name in used for parent in PurePosixPath(name).parents}
    unused = [PurePosixPath(name) for name in names if name not in used and PurePosixPath(name) not in used_folders]
    patterns = Counter(path.parent / f"*{path.suffix}" for path in unused)
    counts: Counter[str] = Counter()
    for path in unused:
        unused_folders = [parent for parent in path.parents if parent not in used_folders]
        pattern = path.parent / f"*{path.suffix}"
        one = pattern if patterns[pattern] > _MAX_ALIKE else path
        counts[f"{unused_folders[-1]}/" if unused_folders else str(one)] += 1
    return dict(sorted(counts.items()))
