"""Which version of a model is served now, in a folder or in Cloud Storage."""

from pathlib import Path

from components.storage.gcs import list_names
from components.storage.gcs_uri import is_gcs_uri
from serving.versions.publication import complete_versions

_GRAPH = "saved_model.pb"


def served_version(base: str) -> str | None:
    """The folder or address of the version that is served; None where there is none yet.

    Args:
        base: a version itself, or the folder of all versions, of which TF Serving serves the newest whole one; a path
            or `gs://bucket/prefix`. Empty for none.

    Raises:
        InputError: the bucket is not there, may not be read, or does not answer.
    """
    base = base.rstrip("/")
    if not base:
        return None
    there = _GRAPH in list_names(base) if is_gcs_uri(base) else (Path(base) / _GRAPH).is_file()
    if there:
        return base
    shown = complete_versions(base)
    return shown[max(shown)] if shown else None


def version_name(version: str) -> str:
    """What a version is called in words, such as "version 3"."""
    return f"version {version.rpartition('/')[2]}"
