"""The profile of an earlier cohort, wherever it is kept."""

import tempfile
from pathlib import Path

from components.runtime.errors import InputError
from components.validate.profile import PROFILE, Profile


def read_reference(address: str) -> Profile:
    """Read the profile that an earlier run's validate step wrote.

    Args:
        address: its folder, as a path or as `gs://bucket/prefix`.

    Raises:
        InputError: there is no profile, or it cannot be fetched.
    """
    from components.storage.gcs import download_prefix
    from components.storage.gcs_uri import is_gcs_uri

    if not is_gcs_uri(address):
        return Profile.read(Path(address).expanduser())
    with tempfile.TemporaryDirectory() as scratch:
        if PROFILE not in download_prefix(address, Path(scratch), wanted=lambda name: name == PROFILE):
            raise InputError(f"{address}: holds no {PROFILE}; give the folder of the profile that validate wrote")
        return Profile.read(Path(scratch))
