"""Which mask belongs to which scan: by a rule for names, never by the order in which files are listed."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# The Kaggle mirror of the 20-case set names scans after the sites they came from, and masks by case alone:
# radiopaedia_org_covid-19-pneumonia-10_85902_1-dcm.nii and radiopaedia_10_85902_1.nii are one case.
_KAGGLE = (
    (re.compile(r"^coronacases_org_(\d+)$", re.IGNORECASE), r"coronacases_\1"),
    (re.compile(r"^radiopaedia_org_covid-19-pneumonia-(\d+_\d+_\d+)-dcm$", re.IGNORECASE), r"radiopaedia_\1"),
)
_ROLE = re.compile(r"[-_. ](mask|seg|segmentation|label|labels|ct|scan|image)$", re.IGNORECASE)
_NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Pair:
    """A scan's file and its mask's, before anything is read."""

    case_id: str
    scan: Path
    mask: Path


def case_id_of(file_name: str) -> str:
    """The case that a file belongs to, by its name: `case1_ct.nii.gz` and `case1_mask.nii.gz` are both `case1`."""
    stem = re.sub(r"\.nii(\.gz)?$", "", file_name, flags=re.IGNORECASE)
    for pattern, replacement in _KAGGLE:
        stem = pattern.sub(replacement, stem)
    stem = _ROLE.sub("", stem)
    return _NOT_IN_AN_ID.sub("-", stem).strip("-._")


def pair_by_name(scans: Iterable[Path], masks: Iterable[Path]) -> tuple[list[Pair], list[str]]:
    """Pair scans with masks.

    Returns:
        The pairs in the order of their case ids, and what does not pair, one line each: a scan without a mask, a
        mask without a scan, and two files that name the same case.
    """
    problems: list[str] = []
    scan_of = _by_case(scans, "scans", problems)
    mask_of = _by_case(masks, "masks", problems)
    for key, scan in scan_of.items():
        if key not in mask_of:
            problems.append(f"scan {scan.name} has no mask; expected one named {case_id_of(scan.name)}.nii.gz")
    for key, mask in mask_of.items():
        if key not in scan_of:
            problems.append(f"mask {mask.name} has no scan; expected one named {case_id_of(mask.name)}.nii.gz")
    shared = sorted(scan_of.keys() & mask_of.keys())
    return [Pair(case_id_of(scan_of[key].name), scan_of[key], mask_of[key]) for key in shared], problems


def _by_case(files: Iterable[Path], role: str, problems: list[str]) -> dict[str, Path]:
    by_case: dict[str, Path] = {}
    for file in files:
        # Files that differ in case alone would overwrite each other on some file systems.
        key = case_id_of(file.name).casefold()
        if not key:
            problems.append(f"{file.name}: has no letter or digit to name its case by; rename it")
        elif key in by_case:
            problems.append(f"{by_case[key].name} and {file.name} are two {role} of one case; keep one")
        else:
            by_case[key] = file
    return by_case
