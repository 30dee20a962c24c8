"""Divide the scans of a source into parts of about equal work."""

import json
from collections.abc import Sequence
from pathlib import Path

from components.ct.scan_folder import choose_scan_folder, find_scans, is_nifti_name, scan_name
from components.runtime.errors import InputError
from components.runtime.files import atomic_folder
from components.runtime.json_file import parse_names, read_json
from components.storage.gcs import list_names
from components.storage.gcs_uri import is_gcs_uri

PLAN_FILE = "plan.json"


def divide_scans(source: str, parts: int) -> list[list[str]]:
    """Divide the scans of a folder, or the NIfTI files of `gs://bucket/prefix`, into at most `parts` nonempty parts.

    As for training, the source may also be a cohort, with the scans in `scans/`.

    Returns:
        The file names of each part, relative to the source.

    Raises:
        InputError: there are no scans, or two of one name.
    """
    if is_gcs_uri(source):
        files = list_names(source)
        folder = choose_scan_folder(source, files, {name.partition("/")[0] for name in files if "/" in name})
        names = [name for name in files if is_nifti_name(name) and name.rpartition("/")[0] == folder]
        if not names:
            raise InputError(f"{source}: no scans here; expected .nii or .nii.gz objects, or scans/ with such objects")
    else:
        path = Path(source)
        if not path.is_dir():
            raise InputError(f"{source}: not a folder; expected a folder of scans, or gs://bucket/prefix")
        files = [file.name for file in path.iterdir() if file.is_file()]
        folder = choose_scan_folder(source, files, (file.name for file in path.iterdir() if file.is_dir()))
        names = [scan.relative_to(path).as_posix() for scan in find_scans(path / folder)]
    name_of: dict[str, str] = {}
    for name in names:
        if name_of.setdefault(scan_name(Path(name)), name) != name:
            raise InputError(f"{source}: {name_of[scan_name(Path(name))]} and {name} have one name; rename one")
    parts = max(1, min(parts, len(names)))
    # Round-robin: names that sort together are often alike in size.
    return [names[part::parts] for part in range(parts)]


def write_plan(parts: Sequence[Sequence[str]], output: Path) -> None:
    """Write the names of each part to `plan.json` in the folder `output`.

    Kubeflow limits parameters to about 100 kB, the names of some thousand scans.
    """
    with atomic_folder(output) as temporary:
        (temporary / PLAN_FILE).write_text(json.dumps(parts, indent=2) + "\n")


def read_part(plan: Path, number: int) -> list[str]:
    """Read the names of a part, counted from 1, from the output of `write_plan`."""
    expected = f"the output of plan_parts with a part {number}; run plan_parts again"
    return read_json(plan / PLAN_FILE, lambda parts: parse_names(parts[number - 1]), expected)
