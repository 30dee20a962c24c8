"""Which version of a model is served now, in a folder or in Cloud Storage, and its files at hand."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from components.storage.gcs import download_prefix, is_gcs, list_names

_GRAPH = "saved_model.pb"  # written last by every export: with it a version is whole


@contextmanager
def served_version(base: str) -> Iterator[Path | None]:
    """The folder of the version that is served, for as long as the context lasts; None where there is none yet.

    Args:
        base: a version's own folder, or that of all versions, of which TF Serving serves the newest; a path, or
            `gs://bucket/prefix`, whose files are fetched for the time being. Empty for none.

    Raises:
        InputError: the bucket is not there, may not be read, or does not answer.
    """
    if not is_gcs(base):
        yield _on_disk(Path(base)) if base else None
        return
    address = _in_bucket(base.rstrip("/"))
    if address is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / address.rpartition("/")[2]
        download_prefix(address, folder)
        yield folder


def _on_disk(base: Path) -> Path | None:
    if (base / _GRAPH).is_file():
        return base
    if not base.is_dir():
        return None
    newest = _newest(folder.name for folder in base.iterdir() if (folder / _GRAPH).is_file())
    return base / newest if newest else None


def _in_bucket(base: str) -> str | None:
    names = list_names(base)
    if _GRAPH in names:
        return base
    newest = _newest(name.removesuffix(f"/{_GRAPH}") for name in names if name.endswith(f"/{_GRAPH}"))
    return f"{base}/{newest}" if newest else None


def _newest(names: Iterable[str]) -> str | None:
    """The highest number among the names of folders; others are no versions."""
    return max((name for name in names if name.isascii() and name.isdecimal()), key=int, default=None)
