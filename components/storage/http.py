"""Download one file over HTTP: resumed after an interruption, retried within limits, verified by its SHA-256.

Retries of urllib3 and pooch start at the first byte; 1 GB over an unreliable connection needs resumed ranges.
"""

import fcntl
import logging
import math
import os
import random
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
import urllib3
from tqdm import tqdm

from components.runtime.errors import InputError
from components.runtime.files import sha256_of
from components.storage.progress import transfer_progress
from components.storage.refusal import REFUSAL_TIMEOUT_S, refusal_reason

_BLOCK_BYTES = 1 << 16
_TRANSIENT_STATUSES = {408, 425, 429, 500, 502, 503, 504}  # RFC 9110 and 6585
_PARTIAL, _RANGE_NOT_SATISFIABLE = 206, 416
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How long to wait for a server."""

    connect_timeout_s: float = 10
    read_timeout_s: float = 60  # between two reads of a response
    stall_timeout_s: float = 120  # without any new byte, over all attempts
    refusal_timeout_s: float = REFUSAL_TIMEOUT_S  # while it refuses connections
    deadline_s: float = 6 * 3600  # for the whole file
    initial_backoff_s: float = 1  # before the second attempt; doubles with each further one
    max_backoff_s: float = 30

    def backoff_s(self, attempt: int) -> float:
        """The wait after a failed attempt, counted from 0, with ±20 % jitter."""
        return min(self.initial_backoff_s * 2**attempt, self.max_backoff_s) * random.uniform(0.8, 1.2)


class TransientError(Exception):
    """A server failure that a retry may resolve.

    Attributes:
        retry_after_s: the delay that the server requested.
        is_refusal: no server is there.
    """

    def __init__(self, reason: str, retry_after_s: float = 0, *, is_refusal: bool = False):
        super().__init__(reason)
        self.retry_after_s = retry_after_s
        self.is_refusal = is_refusal


def download(url: str, path: Path, *, sha256: str, retry_policy: RetryPolicy | None = None) -> None:
    """Download `url` to `path`, unless a file with the hexadecimal digest `sha256` exists there.

    Partial content stays under a hidden name next to `path`, from which the next run resumes.

    Raises:
        InputError: the server refuses, keeps failing, or sends other content twice.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _folder_lock(path.parent):
        if path.is_file() and sha256_of(path) == sha256:
            _log.info("%s: already downloaded", path.name)
            return
        partial = path.with_name(f".{path.name}.{sha256[:12]}.partial")
        try:
            _fetch_verified(url, partial, sha256, path.name, retry_policy or RetryPolicy())
            partial.replace(path)
        except OSError:  # such as a full disk, which partial content would keep full
            partial.unlink(missing_ok=True)
            raise


def _fetch_verified(url: str, partial: Path, sha256: str, name: str, policy: RetryPolicy) -> None:
    for _ in range(2):
        _fetch(url, partial, name, policy)
        digest = sha256_of(partial)
        if digest == sha256:
            return
        with partial.open("rb") as file:
            is_html = file.read(64).lstrip().startswith(b"<")
        partial.unlink()
    hint = "it is an HTML page; check for a login or a proxy" if is_html else "check whether the source has changed"
    raise InputError(f"{url}: fetched twice, its sha256 is {digest}; expected {sha256}; {hint}")


def _fetch(url: str, partial: Path, name: str, policy: RetryPolicy) -> None:
    """Complete `partial` in as many requests as necessary."""
    start = last_byte = time.monotonic()
    deadline = start + policy.deadline_s
    received, attempt, refused_since = _size(partial), 0, math.inf
    with transfer_progress(name) as progress, requests.Session() as session:
        progress.update(received)
        while True:
            try:
                return _request_rest(session, url, partial, progress, policy, deadline)
            except TransientError as error:
                now = time.monotonic()
                if _size(partial) > received:
                    attempt, last_byte = 0, now
                received = _size(partial)
                wait_s = max(policy.backoff_s(attempt), min(error.retry_after_s, policy.max_backoff_s))
                refused_since = min(refused_since, now) if error.is_refusal else math.inf
                end = min(last_byte + policy.stall_timeout_s, deadline, refused_since + policy.refusal_timeout_s)
                if now + wait_s > end:
                    if not received:
                        partial.unlink(missing_ok=True)
                    raise InputError(f"{url}: gave up after {now - start:.0f} s: {error}; try again later") from error
                if attempt == 0:
                    _log.info("%s: %s; trying again for up to %.0f s", name, error, end - now)
                attempt += 1
                time.sleep(wait_s)


def _request_rest(
    session: requests.Session, url: str, partial: Path, progress: tqdm, policy: RetryPolicy, deadline: float
) -> None:
    """Request the missing bytes and append them."""
    received = _size(partial)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={received}-"} if received else {})
    timeouts = policy.connect_timeout_s, policy.read_timeout_s
    try:
        response = session.get(url, headers=headers, stream=True, timeout=timeouts)
    except requests.exceptions.SSLError as error:
        raise InputError(f"{url}: untrusted certificate ({error})") from error
    except (requests.ConnectionError, requests.Timeout) as error:
        refusal = refusal_reason(error)
        raise TransientError(
            refusal or f"no connection ({type(error).__name__})", is_refusal=refusal is not None
        ) from error
    except requests.RequestException as error:
        raise InputError(f"{url}: cannot be fetched ({error}); check the address") from error
    with closing(response):
        sent_range = response.headers.get("Content-Range", "")
        if response.status_code == _RANGE_NOT_SATISFIABLE and received:
            if sent_range.endswith(f"/{received}"):
                return  # complete
            partial.unlink()
            raise TransientError("the remote file is shorter than the partial download")
        _check_status(url, response)
        if response.status_code == _PARTIAL:
            if not sent_range.startswith(f"bytes {received}-"):
                partial.unlink(missing_ok=True)
                raise TransientError("the server sent a range that was not requested")
        elif received:  # the server ignores ranges and sends the whole file
            progress.update(-received)
            received = 0
        _receive(response, partial, received, progress, deadline)


def _check_status(url: str, response: requests.Response) -> None:
    status = response.status_code
    if status in _TRANSIENT_STATUSES:
        retry_after = response.headers.get("Retry-After", "")
        raise TransientError(f"the server answered {status}", float(retry_after) if retry_after.isdigit() else 0)
    if status not in (200, _PARTIAL):
        login = ", and whether it requires a login" if status in (401, 403) else ""
        raise InputError(f"{url}: the server answered {status} {response.reason}; check the address{login}")


def _receive(response: requests.Response, partial: Path, offset: int, progress: tqdm, deadline: float) -> None:
    """Write the response body after the first `offset` bytes of `partial`."""
    expected, received = int(response.headers.get("Content-Length") or 0), 0
    progress.total = offset + expected
    with partial.open("ab" if offset else "wb") as file:
        try:
            # read1 returns available bytes; read would block until a slow server fills the whole block.
            while block := response.raw.read1(_BLOCK_BYTES, decode_content=False):
                file.write(block)
                progress.update(len(block))
                received += len(block)
                if time.monotonic() > deadline:
                    raise TransientError("the deadline has passed")
        except (urllib3.exceptions.HTTPError, ConnectionError) as error:
            raise TransientError(f"the connection was cut ({type(error).__name__})") from error
    if received < expected:
        raise TransientError("the connection was cut")


@contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    """Lock a folder against other downloads: two processes must not append to one partial file."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
