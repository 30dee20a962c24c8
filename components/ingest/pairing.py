"""Pair scans with masks by name, never by the order of a listing."""

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from components.ct.cases import name_key, normalize_name

# The Kaggle mirror of the 20-case set names scans after their sites and masks by case alone:
# radiopaedia_org_covid-19-pneumonia-10_85902_1-dcm.nii and radiopaedia_10_85902_1.nii are one case.
_KAGGLE = (
    (re.compile(r"^coronacases_org_(\d+)$", re.IGNORECASE), r"coronacases_\1"),
    (re.compile(r"^radiopaedia_org_covid-19-pneumonia-(\d+_\d+_\d+)-dcm$", re.IGNORECASE), r"radiopaedia_\1"),
)
_ROLE = re.compile(r"[-_. ](mask|seg|segmentation|label|labels|ct|scan|image)$", re.IGNORECASE)
_INVALID_CHARACTERS = re.compile(r"[^A-Za-z0-9._-]+")
_DIGEST_DIGITS = 8
_MAX_LENGTH = 128  # of a case id without digest: file names end at 255 bytes, and outputs add to the id


@dataclass(frozen=True)
class Pair:
    """The scan and the mask of a case, before either is read."""

    case_id: str
    scan: Path
    mask: Path


def parse_case_id(file_name: str) -> str:
    """Derive the case id from a file name: `case1_ct.nii.gz` and `case1_mask.nii.gz` both give `case1`.

    Case ids are ASCII and short. A longer name, or one with other letters, gets a digest: `pät` and `pöt` stay apart.
    """
    stem = re.sub(r"\.nii(\.gz)?$", "", normalize_name(file_name), flags=re.IGNORECASE)
    for pattern, replacement in _KAGGLE:
        stem = pattern.sub(replacement, stem)
    stem = _ROLE.sub("", stem)
    readable = unicodedata.normalize("NFKD", stem).encode("ascii", errors="ignore").decode()
    case_id = _INVALID_CHARACTERS.sub("-", readable).strip("-._")
    if stem.isascii() and len(case_id) <= _MAX_LENGTH:
        return case_id
    digest = hashlib.sha256(name_key(stem).encode(errors="surrogateescape")).hexdigest()
    return f"{case_id[:_MAX_LENGTH] or 'case'}-{digest[:_DIGEST_DIGITS]}"


def pair_by_name(scans: Iterable[Path], masks: Iterable[Path]) -> tuple[list[Pair], list[str]]:
    """Pair scans with masks.

    Returns:
        The pairs, ordered by case id; and one line for each problem: a scan without a mask, a mask without a scan,
        two files of one case, or a name without a case id.
    """
    problems: list[str] = []
    by_role = {role: _group_by_case(files, role, problems) for role, files in (("scan", scans), ("mask", masks))}
    for role, partner in (("scan", "mask"), ("mask", "scan")):
        for key, file in by_role[role].items():
            if key not in by_role[partner]:
                problems.append(
                    f"{role} {file.name} has no {partner}; expected one named {parse_case_id(file.name)}.nii.gz"
                )
    scan_of, mask_of = by_role["scan"], by_role["mask"]
    shared = sorted(scan_of.keys() & mask_of.keys())
    return [Pair(parse_case_id(scan_of[key].name), scan_of[key], mask_of[key]) for key in shared], problems


def _group_by_case(files: Iterable[Path], role: str, problems: list[str]) -> dict[str, Path]:
    by_case: dict[str, Path] = {}
    for file in files:
        # On some file systems, names that differ only in case would overwrite each other.
        key = parse_case_id(file.name).casefold()
        if not key:
            problems.append(f"{file.name}: the name has no letter or digit for a case id; rename it")
        elif key in by_case:
            folder = os.path.commonpath([by_case[key].parent, file.parent])
            both = " and ".join(os.path.relpath(path, folder) for path in (by_case[key], file))
            problems.append(f"{both} are two {role}s of one case; keep one, or rename one")
        else:
            by_case[key] = file
    return by_case
