"""Divide the scans of a source into parts of about equal work."""

import json
from collections.abc import Sequence
from pathlib import Path

from components.ct.scan_folder import is_nifti_name
from components.runtime.errors import InputError
from components.runtime.files import atomic_folder
from components.storage.gcs import list_names
from components.storage.gcs_uri import is_gcs_uri
from serving.client.scans import scans_by_case

PLAN_FILE = "plan.json"


def divide_scans(source: str, parts: int) -> list[list[str]]:
    """Divide the scans of a folder, or the NIfTI files of `gs://bucket/prefix`, into at most `parts` nonempty parts.

    Returns:
        The file names of each part, relative to the source.
    """
    if is_gcs_uri(source):
        names = [name for name in list_names(source) if is_nifti_name(name) and "/" not in name]
        if not names:
            raise InputError(f"{source}: no scans here; expected .nii or .nii.gz objects")
    else:
        if not Path(source).is_dir():
            raise InputError(f"{source}: not a folder; expected a folder of scans, or gs://bucket/prefix")
        names = [path.name for path in scans_by_case(Path(source)).values()]
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
    names: list[str] = json.loads((plan / PLAN_FILE).read_text())[number - 1]
    return names
