"""Folders in Google Cloud Storage: every object whole, checked and of one generation, or an error that names it.

The client library verifies a download only where it was never cut, and leaves partial files behind. So every object
is fetched under a temporary name, its CRC32C compared with the listed one here, and then renamed.

Credentials are Google's application defaults. With `STORAGE_EMULATOR_HOST` set, the library goes to that server,
anonymously.
"""

import base64
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

import google_crc32c
import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.cloud import storage
from google.cloud.storage.exceptions import InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY

from components.runtime.errors import InputError
from components.runtime.files import atomic_write
from components.storage.gcs_uri import GcsUri
from components.storage.progress import Progress

CONNECT_TIMEOUT_S, SILENCE_TIMEOUT_S = 10, 60  # to connect, and between two pieces of an answer
DEADLINE_S = 180.0  # how long one object is tried again while the server fails
_WORKERS = 8
_BLOCK_BYTES = 1 << 20
_CREDENTIALS = (
    "check the name, and that the credentials may use it (`gcloud auth application-default login`, "
    "GOOGLE_APPLICATION_CREDENTIALS, or the pod's workload identity)"
)


class ObjectExistsError(InputError):
    """An object is there already, with other content; nothing was overwritten."""


def list_names(uri: str, *, deadline_s: float = DEADLINE_S) -> list[str]:
    """The names of all objects below `gs://bucket/prefix`, relative to it and sorted.

    Raises:
        InputError: the bucket is not there, may not be read, or does not answer.
    """
    place = GcsUri.parse(uri)
    return sorted(relative for relative, _ in _listed_objects(_client(place), place, deadline_s))


def list_generations(uri: str, *, wanted: Callable[[str], bool]) -> dict[str, str]:
    """What stands for the content of each object that `download_prefix` would fetch: generation, CRC32C and size.

    Args:
        uri: `gs://bucket/prefix`.
        wanted: which objects, by their name relative to the prefix.

    Returns:
        By name relative to the prefix, sorted.

    Raises:
        InputError: nothing there, no permission, a name that leads out of a folder, or a server that goes on failing.
    """
    place = GcsUri.parse(uri)
    blobs = _wanted_objects(place, wanted, DEADLINE_S)
    return {name: f"{blob.generation} {blob.crc32c} {blob.size}" for name, blob in sorted(blobs.items())}


def download_prefix(
    uri: str,
    folder: Path,
    *,
    wanted: Callable[[str], bool] = lambda name: True,
    workers: int = _WORKERS,
    deadline_s: float = DEADLINE_S,
) -> list[str]:
    """Fetch the objects below `gs://bucket/prefix` into `folder`, several at a time, their folders kept.

    Each object is fetched in the generation that was listed. A file that is there already with the object's size
    and CRC32C is kept, so that a second call fetches what is new; other files in `folder` are left alone.

    Args:
        uri: `gs://bucket/prefix`.
        folder: where to, made where missing.
        wanted: which objects, by their name relative to the prefix.
        workers: objects in flight at the same time.
        deadline_s: how long one object is tried again while the server fails.

    Returns:
        The names relative to the prefix and to `folder`, sorted.

    Raises:
        InputError: nothing there, no permission, a name that leaves `folder`, content that does not have the
            listed CRC32C even when fetched twice, an object that changed meanwhile, or a server that goes on failing.
    """
    place = GcsUri.parse(uri)
    blobs = _wanted_objects(place, wanted, deadline_s)
    total_bytes = sum(blob.size for blob in blobs.values())
    with Progress(f"{uri}: {len(blobs)} objects", total_bytes) as progress, ThreadPoolExecutor(workers) as pool:
        fetched = [
            pool.submit(_download, place.uri(name), blob, folder / name, deadline_s, progress)
            for name, blob in blobs.items()
        ]
        try:
            for future in fetched:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return sorted(blobs)


def upload_folder(folder: Path, uri: str, *, last: str = "", deadline_s: float = DEADLINE_S) -> list[str]:
    """Copy a folder's files below `gs://bucket/prefix`, never over an object that is there.

    Objects are written one after the other in the order of their names, `last` at the end: a reader that waits for
    that one finds all others. Every write has the precondition that the object does not exist. One that exists with
    the same content counts as written, so that a repeated upload ends well; of two uploads of different folders at
    the same time, the first difference stops one of them, and the other goes on alone.

    Args:
        folder: what to copy, folders inside included.
        uri: `gs://bucket/prefix`.
        last: the relative name of the file to write after all others, such as `saved_model.pb`.
        deadline_s: how long one object is tried again while the server fails.

    Returns:
        The relative names, in the order written.

    Raises:
        ObjectExistsError: an object is there with other content. What this call wrote is taken back.
        InputError: no permission, no such bucket, or a server that goes on failing. Also taken back.
    """
    place = GcsUri.parse(uri)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    if last and last not in names:
        raise ValueError(f"{last} is not in {folder}")
    names.sort(key=lambda name: name == last)  # stable: the others keep their order
    bucket = _client(place).bucket(place.bucket)
    written: list[storage.Blob] = []
    try:
        for name in names:
            blob = bucket.blob(place.name(name))
            if _upload(place.uri(name), blob, folder / name, deadline_s):
                written.append(blob)
    except BaseException:
        for blob in reversed(written):
            with suppress(Exception):  # the failure that led here is the one to tell
                blob.delete(if_generation_match=blob.generation, timeout=CONNECT_TIMEOUT_S, retry=None)
        raise
    return names


def crc32c_of(path: Path) -> str:
    """The CRC32C of a file as Cloud Storage writes it: base64 of four bytes, the highest first."""
    checksum = google_crc32c.Checksum()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            checksum.update(block)
    return base64.b64encode(checksum.digest()).decode()


def _client(place: GcsUri) -> storage.Client:
    with _told(place.uri()):
        return storage.Client()


def _listed_objects(client: storage.Client, place: GcsUri, deadline_s: float) -> Iterator[tuple[str, storage.Blob]]:
    prefix = place.name("") if place.prefix else ""
    with _told(place.uri()):
        for blob in client.list_blobs(place.bucket, prefix=prefix or None, **_patience(deadline_s)):
            if not blob.name.endswith("/"):  # what consoles write to show an empty folder
                yield blob.name.removeprefix(prefix), blob


def _wanted_objects(place: GcsUri, wanted: Callable[[str], bool], deadline_s: float) -> dict[str, storage.Blob]:
    blobs = {name: blob for name, blob in _listed_objects(_client(place), place, deadline_s) if wanted(name)}
    if not blobs:
        raise InputError(f"{place.uri()}: holds no objects to fetch; {_CREDENTIALS}")
    strange = [name for name in blobs if PurePosixPath(name).is_absolute() or {"..", ""} & set(name.split("/"))]
    if strange:
        raise InputError(f"{place.uri(strange[0])}: a name that leads out of the folder; rename the object")
    return blobs


def _download(uri: str, blob: storage.Blob, path: Path, deadline_s: float, progress: Progress) -> None:
    if path.is_file() and path.stat().st_size == blob.size and crc32c_of(path) == blob.crc32c:
        progress.add(blob.size)
        return
    with _told(uri), atomic_write(path) as temporary:
        found = _fetch(uri, blob, temporary, deadline_s)
        if found != blob.crc32c:
            found = _fetch(uri, blob, temporary, deadline_s)
        if found != blob.crc32c:
            raise InputError(
                f"{uri}: fetched twice, its CRC32C is {found} where {blob.crc32c} is listed; look at the network "
                "between here and the bucket, or upload the object again"
            )
    progress.add(blob.size)


def _fetch(uri: str, blob: storage.Blob, path: Path, deadline_s: float) -> str:
    """Fetch an object in the generation that was listed, and give the CRC32C of what arrived."""
    try:
        blob.download_to_filename(
            path,
            raw_download=True,  # as stored: what a server unpacks on the way has another CRC32C
            checksum=None,  # the library skips it after a cut; compared by the caller
            if_generation_match=blob.generation,
            **_patience(deadline_s),
        )
    except (api.NotFound, api.PreconditionFailed) as error:
        raise InputError(f"{uri}: changed while it was read; run again once nothing writes to it") from error
    return crc32c_of(path)


def _upload(uri: str, blob: storage.Blob, path: Path, deadline_s: float) -> bool:
    """Write an object; False where it stands there already with the same content."""
    with _told(uri):
        try:
            blob.upload_from_filename(path, if_generation_match=0, checksum="crc32c", **_patience(deadline_s))
        except api.PreconditionFailed:
            blob.reload(**_patience(deadline_s))
            ours = crc32c_of(path)
            if blob.crc32c != ours:
                raise ObjectExistsError(
                    f"{uri}: exists with other content (CRC32C {blob.crc32c}, ours {ours}) and is never overwritten; "
                    "choose another prefix"
                ) from None
            return False
    return True


def _patience(deadline_s: float) -> dict[str, Any]:
    return {"timeout": (CONNECT_TIMEOUT_S, SILENCE_TIMEOUT_S), "retry": DEFAULT_RETRY.with_timeout(deadline_s)}


@contextmanager
def _told(uri: str) -> Iterator[None]:
    """Turn what the client library raises into one line that names the object."""
    try:
        yield
    except (api.NotFound, api.Forbidden, api.Unauthorized) as error:
        reason = {404: "not found", 403: "not permitted", 401: "not permitted"}[error.code]
        raise InputError(f"{uri}: {reason} ({error.code:d}); {_CREDENTIALS}") from error
    except auth.DefaultCredentialsError as error:
        raise InputError(f"{uri}: no usable Google credentials; {_CREDENTIALS}") from error
    except (api.GoogleAPICallError, api.RetryError, auth.GoogleAuthError, OSError) as error:
        if isinstance(error, OSError) and not isinstance(error, requests.RequestException | ConnectionError):
            raise  # of this machine's disk
        raise InputError(f"{uri}: the server goes on failing ({_cause(error)}); try again later") from error


def _cause(error: Exception) -> str:
    cause = error.cause if isinstance(error, api.RetryError) and error.cause else error
    if isinstance(cause, InvalidResponse):
        return f"it answered {cause.response.status_code}"
    return f"{type(cause).__name__}: {cause}"[:200]
