"""Folders in Google Cloud Storage: checked downloads of one generation, and uploads that never overwrite.

The client library skips the checksum of an interrupted download and leaves partial files behind. Here each object is
downloaded under a temporary name, compared with its listed CRC32C, and then renamed.

Credentials are Google's application default credentials. If `STORAGE_EMULATOR_HOST` is set, the library connects to
that server anonymously.
"""

import base64
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import google_crc32c
from google.api_core import exceptions as api
from google.cloud import storage

from components.runtime.errors import InputError
from components.runtime.files import atomic_write
from components.storage.gcs_requests import CONNECT_TIMEOUT_S, CREDENTIALS, retry_options, translate_api_errors
from components.storage.gcs_uri import GcsUri
from components.storage.progress import transfer_progress

DEADLINE_S = 180.0  # for the retries of one object
_WORKERS = 8
_BLOCK_BYTES = 1 << 20


class ObjectExistsError(InputError):
    """An object exists with other content; nothing was overwritten."""


def list_names(uri: str, *, deadline_s: float = DEADLINE_S) -> list[str]:
    """List the names of all objects below `gs://bucket/prefix`, relative to it and sorted.

    Raises:
        InputError: the bucket does not exist, may not be read, or keeps failing.
    """
    return sorted(name for name, _ in _list_blobs(GcsUri.parse(uri), deadline_s))


def list_times(uri: str, *, deadline_s: float = DEADLINE_S) -> dict[str, datetime]:
    """Map the name of each object below `gs://bucket/prefix`, relative to it, to the time of its last change.

    Raises:
        InputError: as in `list_names`.
    """
    return {name: blob.updated for name, blob in _list_blobs(GcsUri.parse(uri), deadline_s)}


def list_generations(uri: str, *, deadline_s: float = DEADLINE_S) -> dict[str, str]:
    """Map the name of each object below `gs://bucket/prefix`, relative to it, to its generation, CRC32C and size.

    Raises:
        InputError: no objects, no permission, or a server that keeps failing.
    """
    blobs = _select_blobs(GcsUri.parse(uri), lambda name: True, deadline_s)
    return {name: f"{blob.generation} {blob.crc32c} {blob.size}" for name, blob in sorted(blobs.items())}


def download_prefix(
    uri: str,
    folder: Path,
    *,
    include: Callable[[str], bool] = lambda name: True,
    workers: int = _WORKERS,
    deadline_s: float = DEADLINE_S,
) -> list[str]:
    """Download the objects below `gs://bucket/prefix` into `folder` in parallel, and return their sorted names.

    `include` selects objects by their name relative to the prefix. Each object is downloaded in its listed generation.
    Existing files with the same size and CRC32C are kept; other files in `folder` are not touched.

    Raises:
        InputError: no objects, no permission, a name that no file can have, two CRC32C mismatches, an object that
            changes during the download, or a server that keeps failing.
    """
    location = GcsUri.parse(uri)
    blobs = _select_blobs(location, include, deadline_s)
    for name in blobs:
        location.check_file_name(name)
    total_bytes, options = sum(blob.size for blob in blobs.values()), retry_options(deadline_s)
    with (
        transfer_progress(f"{uri}: {len(blobs)} objects", total_bytes) as progress,
        ThreadPoolExecutor(workers) as pool,
    ):
        downloads = {
            pool.submit(_download, location.join(name), blob, folder / name, options): blob.size
            for name, blob in blobs.items()
        }
        try:
            for download in as_completed(downloads):
                download.result()
                progress.update(downloads[download])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return sorted(blobs)


def upload_folder(folder: Path, uri: str, *, last: str | None = None, deadline_s: float = DEADLINE_S) -> list[str]:
    """Upload a folder's files below `gs://bucket/prefix` without overwriting any object, and return their names.

    Objects are written one by one in order of their names, `last` at the end: a reader that waits for it finds all
    others. Each write requires that the object does not exist. An object with the same content counts as written,
    which makes uploads repeatable; of two concurrent uploads of different folders, the first difference stops one.

    Raises:
        ObjectExistsError: an object exists with other content. Objects that this call wrote are deleted.
        InputError: no permission, no such bucket, or a server that keeps failing. Likewise deleted.
    """
    location = GcsUri.parse(uri)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    if last and last not in names:
        raise ValueError(f"{last} is not in {folder}")
    names.sort(key=lambda name: name == last)  # stable: the others keep their order
    options = retry_options(deadline_s)
    with _rollback(location) as (bucket, written):
        for name in names:
            blob = bucket.blob(location.object_name(name))
            if _upload(location.join(name), blob, folder / name, options):
                written.append(blob)
    return names


def check_prefix_writable(uri: str, *, deadline_s: float = 30.0) -> None:
    """Raise `InputError` unless objects can be created below `gs://bucket/prefix`; none is.

    Cloud Storage checks the permission when a resumable upload begins, and creates the object when it ends. This one is
    given up (cloud.google.com/storage/docs/resumable-uploads).
    """
    location = GcsUri.parse(uri)
    name = f".writable-{uuid.uuid4().hex}"
    with translate_api_errors(location.join()):
        blob = storage.Client().bucket(location.bucket).blob(location.object_name(name))
        blob.create_resumable_upload_session(if_generation_match=0, size=0, **retry_options(deadline_s))


def copy_folder(source: str, target: str, *, last: str | None = None, deadline_s: float = DEADLINE_S) -> None:
    """Copy all objects of a prefix to another one in the same bucket, inside Cloud Storage, as `upload_folder` writes.

    Raises:
        ObjectExistsError: an object exists with other content. Objects that this call wrote are deleted.
        InputError: as in `upload_folder`.
    """
    location = GcsUri.parse(target)
    blobs, options = dict(_list_blobs(GcsUri.parse(source), deadline_s)), retry_options(deadline_s)
    with _rollback(location) as (bucket, written):
        for name in sorted(blobs, key=lambda name: (name == last, name)):
            blob = bucket.blob(location.object_name(name))
            if _copy(location.join(name), blobs[name], blob, options):
                written.append(blob)


def delete_prefix(uri: str, *, deadline_s: float = DEADLINE_S) -> None:
    """Delete all objects below `gs://bucket/prefix`; raise `InputError` without a prefix or the permission."""
    location = GcsUri.parse(uri)
    if not location.prefix:
        raise InputError(f"{uri}: a whole bucket; expected gs://bucket/prefix to delete")
    for name, blob in list(_list_blobs(location, deadline_s)):
        with translate_api_errors(location.join(name)), suppress(api.NotFound):
            blob.delete(**retry_options(deadline_s))


def crc32c_of(path: Path) -> str:
    """Compute the CRC32C of a file as Cloud Storage writes it: base64 of four big-endian bytes."""
    checksum = google_crc32c.Checksum()
    with path.open("rb") as file:
        for _ in checksum.consume(file, _BLOCK_BYTES):
            pass
    return base64.b64encode(checksum.digest()).decode()


def _list_blobs(location: GcsUri, deadline_s: float) -> Iterator[tuple[str, storage.Blob]]:
    prefix = location.object_name("") if location.prefix else ""
    with translate_api_errors(location.join()):
        for blob in storage.Client().list_blobs(location.bucket, prefix=prefix or None, **retry_options(deadline_s)):
            if not blob.name.endswith("/"):  # consoles write such objects for empty folders
                yield blob.name.removeprefix(prefix), blob


def _select_blobs(location: GcsUri, include: Callable[[str], bool], deadline_s: float) -> dict[str, storage.Blob]:
    blobs = {name: blob for name, blob in _list_blobs(location, deadline_s) if include(name)}
    if not blobs:
        raise InputError(f"{location.join()}: holds no objects to download; {CREDENTIALS}")
    return blobs


def _download(uri: str, blob: storage.Blob, path: Path, options: dict[str, Any]) -> None:
    if path.is_file() and path.stat().st_size == blob.size and crc32c_of(path) == blob.crc32c:
        return
    with translate_api_errors(uri), atomic_write(path) as temporary:
        for _ in range(2):
            crc32c = _fetch(uri, blob, temporary, options)
            if crc32c == blob.crc32c:
                return
        raise InputError(
            f"{uri}: fetched twice, its CRC32C is {crc32c}; expected {blob.crc32c} as listed; check the network, or "
            "upload the object again"
        )


def _fetch(uri: str, blob: storage.Blob, path: Path, options: dict[str, Any]) -> str:
    """Download an object in its listed generation, and return the CRC32C of the file."""
    try:
        blob.download_to_filename(
            path,
            raw_download=True,  # the CRC32C is of the stored bytes, before any decompression
            checksum=None,  # the caller compares: the library skips the check after an interruption
            if_generation_match=blob.generation,
            **options,
        )
    except (api.NotFound, api.PreconditionFailed) as error:
        raise InputError(f"{uri}: changed during the download; run again when it no longer changes") from error
    return crc32c_of(path)


def _upload(uri: str, blob: storage.Blob, path: Path, options: dict[str, Any]) -> bool:
    """Write an object; return False if it exists with the same content."""
    with translate_api_errors(uri):
        try:
            blob.upload_from_filename(path, if_generation_match=0, checksum="crc32c", **options)
        except api.PreconditionFailed:
            blob.reload(**options)
            crc32c = crc32c_of(path)
            if blob.crc32c != crc32c:
                raise ObjectExistsError(
                    f"{uri}: exists with other content (CRC32C {blob.crc32c}, this file {crc32c}) and is never "
                    "overwritten; choose another prefix"
                ) from None
            return False
    return True


def _copy(uri: str, source: storage.Blob, blob: storage.Blob, options: dict[str, Any]) -> bool:
    """Copy an object; return False if it exists with the same content."""
    with translate_api_errors(uri):
        try:
            token, _, _ = blob.rewrite(source, if_generation_match=0, **options)
            while token:  # the same bucket and storage class take one request
                token, _, _ = blob.rewrite(source, token=token, if_generation_match=0, **options)
        except api.PreconditionFailed:
            blob.reload(**options)
            if blob.crc32c != source.crc32c:
                raise ObjectExistsError(f"{uri}: exists with other content and is never overwritten") from None
            return False
    return True


@contextmanager
def _rollback(location: GcsUri) -> Iterator[tuple[storage.Bucket, list[storage.Blob]]]:
    """Yield a bucket and a list for the objects written to it; delete these if the block fails."""
    with translate_api_errors(location.join()):
        bucket = storage.Client().bucket(location.bucket)
    written: list[storage.Blob] = []
    try:
        yield bucket, written
    except BaseException:
        for blob in reversed(written):
            with suppress(Exception):  # report the original failure
                blob.delete(if_generation_match=blob.generation, timeout=CONNECT_TIMEOUT_S, retry=None)
        raise
