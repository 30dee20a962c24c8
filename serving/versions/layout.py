"""The layout of a model's versions: `<model base>/<integer>/`, on disk or in Cloud Storage, and the files in them.

A version is complete once it has a `saved_model.pb`, the file TensorFlow Serving looks for and export writes last.
"""

import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from components.runtime.errors import InputError
from components.storage.gcs import download_prefix, list_names
from components.storage.gcs_uri import is_gcs_uri

MAX_VERSION = 2**63 - 1
SAVED_MODEL_PB = "saved_model.pb"
ASSETS_EXTRA = Path("assets.extra")  # files that go with a SavedModel and that TensorFlow does not read
MANIFEST_FILE = ASSETS_EXTRA / "MANIFEST.sha256"
SIGNATURE_FILE = ASSETS_EXTRA / "model.sig"
PREPROCESSING_FILE = ASSETS_EXTRA / "preprocessing.json"
WARMUP_FILE = ASSETS_EXTRA / "tf_serving_warmup_requests"  # TF Serving's name
VERDICT_FILE = "verdict.json"  # in the output of evaluate, and in assets.extra
MODEL_CARD_FILE = "model_card.md"


def local_version_folders(base: Path) -> dict[int, Path]:
    """Find the folders named by an integer, complete or not, in ascending order."""
    if not base.is_dir():
        return {}
    numbers = ((parse_version(path.name), path) for path in sorted(base.iterdir()) if path.is_dir())
    return dict(sorted((number, path) for number, path in numbers if number is not None))


def complete_local_versions(base: Path) -> dict[int, Path]:
    """Find the complete versions in a folder, in ascending order."""
    return {number: path for number, path in local_version_folders(base).items() if (path / SAVED_MODEL_PB).is_file()}


def find_model_base(folder: Path, model: str) -> Path:
    """Return the first of `folder` and `folder/model` with complete versions; raise `InputError` if neither has."""
    for base in (folder, folder / model):
        if complete_local_versions(base):
            return base
    raise InputError(
        f"{folder}: no model version here; expected a folder named by an integer that holds {SAVED_MODEL_PB}, "
        f"such as {folder}/1/{SAVED_MODEL_PB}; run the training pipeline to export one"
    )


def version_numbers(model_base: str) -> list[int]:
    """List the version numbers in a folder or `gs://bucket/prefix`, complete or not, in ascending order."""
    if not is_gcs_uri(model_base):
        return list(local_version_folders(Path(model_base)))
    return _numbers(list_names(model_base))


def complete_versions(model_base: str) -> dict[int, str]:
    """Find the complete versions in a folder or `gs://bucket/prefix`: path or URI by number, in ascending order."""
    if not is_gcs_uri(model_base):
        return {number: str(path) for number, path in complete_local_versions(Path(model_base)).items()}
    return _complete_in_bucket(model_base.rstrip("/"), list_names(model_base))


def _complete_in_bucket(base: str, names: Iterable[str]) -> dict[int, str]:
    complete = sorted({folder for folder, _, rest in (name.partition("/") for name in names) if rest == SAVED_MODEL_PB})
    numbers = ((parse_version(folder), f"{base}/{folder}") for folder in complete)
    return dict(sorted((number, uri) for number, uri in numbers if number is not None))


def newest_version(base: str) -> str | None:
    """Return `base` if it is a version itself, otherwise its newest complete version, the one that TF Serving serves.

    Both are paths or URIs. Returns None without a complete version; raises `InputError` if a bucket cannot be read.
    """
    base = base.rstrip("/")
    if not base:
        return None
    if is_gcs_uri(base):
        names = list_names(base)
        is_version, versions = SAVED_MODEL_PB in names, _complete_in_bucket(base, names)
    else:
        is_version, versions = (Path(base) / SAVED_MODEL_PB).is_file(), complete_versions(base)
    return base if is_version else next(reversed(versions.values()), None)


def require_version(base: str) -> str:
    """Return the `newest_version`; raise `InputError` if there is none."""
    version = newest_version(base)
    if version is None:
        raise InputError(f"{base}: no version here; expected a model base or a version folder with {SAVED_MODEL_PB}")
    return version


def version_number(version: str) -> int | None:
    """Read the number from a version's path or URI; None if its last part is not an integer."""
    return parse_version(version.rpartition("/")[2])


def parse_version(name: str) -> int | None:
    """Read a folder name as TF Serving does; None if it is no version.

    absl::SimpleAtoi in tensorflow/serving, sources/storage_path/file_system_storage_path_source.cc. Of several folders
    of one number, the last by name counts.
    """
    number = int(name) if re.fullmatch(r"[ \t\n\v\f\r]*[+-]?[0-9]+[ \t\n\v\f\r]*", name) else None
    return number if number is not None and -(2**63) <= number <= MAX_VERSION else None


def version_name(version: str) -> str:
    """Name a version in messages, such as "version 3"."""
    return f"version {version.rpartition('/')[2]}"


@contextmanager
def local_copy(version: str) -> Iterator[Path]:
    """Yield a version's folder, downloaded to a temporary folder if it is in Cloud Storage."""
    if not is_gcs_uri(version):
        yield Path(version)
        return
    with tempfile.TemporaryDirectory() as scratch:
        download_prefix(version, Path(scratch))
        yield Path(scratch)


def _numbers(names: Iterable[str]) -> list[int]:
    folders = {name.partition("/")[0] for name in names if "/" in name}
    return sorted({number for folder in folders if (number := parse_version(folder)) is not None})
