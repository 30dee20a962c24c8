"""One file over HTTP: resumed where it was cut, tried again within limits, and believed only by its SHA-256."""

import fcntl
import os
import random
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
import urllib3

from components.runtime.errors import InputError
from components.runtime.files import sha256_of
from components.storage.progress import Progress

_BLOCK_BYTES = 1 << 16
_TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}  # RFC 9110 and 6585: what may pass
_PARTIAL, _RANGE_NOT_SATISFIABLE = 206, 416


@dataclass(frozen=True)
class RetryPolicy:
    """How long to wait for a server.

    Attributes:
        connect_timeout_s: for a connection.
        read_timeout_s: for the next bytes of an answer.
        stall_timeout_s: for any new byte, over all tries.
        deadline_s: for the whole file.
        initial_backoff_s: before the second try; doubled for every further one, up to `max_backoff_s`.
    """

    connect_timeout_s: float = 10
    read_timeout_s: float = 60
    stall_timeout_s: float = 120
    deadline_s: float = 6 * 3600
    initial_backoff_s: float = 1
    max_backoff_s: float = 30


class TransientError(Exception):
    """The server failed in a way that may pass; `wait_s` is how long it asked to be left alone."""

    def __init__(self, reason: str, wait_s: float = 0):
        super().__init__(reason)
        self.wait_s = wait_s


def download(url: str, path: Path, sha256: str, retry_policy: RetryPolicy | None = None) -> None:
    """Fetch `url` to `path`, unless a file with that digest is there already.

    What arrived is kept under a hidden name beside `path` until it is whole: a run that was killed or that ran out
    of retry_policy is taken up by the next one where it ended.

    Args:
        url: where from.
        path: where to; its folder is made where missing.
        sha256: the hexadecimal digest that the file must have.
        retry_policy: how long to wait for the server.

    Raises:
        InputError: the server refuses, goes on failing, or sent something else twice.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone_in(path.parent):
        if path.is_file() and sha256_of(path) == sha256:
            print(f"{path.name}: is there already", flush=True)
            return
        partial = path.with_name(f".{path.name}.{sha256[:12]}.partial")
        try:
            _fetch_as(url, partial, sha256, path.name, retry_policy or RetryPolicy())
            partial.replace(path)
        except OSError:  # a full disk: what is there only takes up more of it
            partial.unlink(missing_ok=True)
            raise


def _fetch_as(url: str, partial: Path, sha256: str, name: str, retry_policy: RetryPolicy) -> None:
    for _ in range(2):
        _fetch(url, partial, name, retry_policy)
        found = sha256_of(partial)
        if found == sha256:
            return
        kind = _kind(partial)
        partial.unlink()
    raise InputError(f"{url}: fetched twice, its sha256 is {found} where {sha256} is expected{kind}")


def _fetch(url: str, partial: Path, name: str, retry_policy: RetryPolicy) -> None:
    """Bring `partial` to its full length, in as many requests as it takes."""
    began = last_byte = time.monotonic()
    have, tries = _size(partial), 0
    with Progress(name, 0) as progress, requests.Session() as session:
        progress.add(have)
        while True:
            try:
                return _append(session, url, partial, progress, retry_policy, began + retry_policy.deadline_s)
            except TransientError as error:
                now = time.monotonic()
                if _size(partial) > have:
                    tries, last_byte = 0, now
                have = _size(partial)
                wait_s = max(_backoff_s(tries, retry_policy), min(error.wait_s, retry_policy.max_backoff_s))
                tries += 1
                if now + wait_s > min(last_byte + retry_policy.stall_timeout_s, began + retry_policy.deadline_s):
                    if not have:
                        partial.unlink(missing_ok=True)
                    raise InputError(f"{url}: gave up after {now - began:.0f} s: {error}; try again later") from error
                print(f"{name}: {error}; next try in {wait_s:.1f} s", flush=True)
                time.sleep(wait_s)


def _append(
    session: requests.Session, url: str, partial: Path, progress: Progress, retry_policy: RetryPolicy, until: float
) -> None:
    """Ask for what is missing, and append it."""
    have = _size(partial)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = session.get(
            url, headers=headers, stream=True, timeout=(retry_policy.connect_timeout_s, retry_policy.read_timeout_s)
        )
    except requests.exceptions.SSLError as error:
        raise InputError(f"{url}: its certificate is not to be trusted ({error})") from error
    except (requests.ConnectionError, requests.Timeout) as error:
        raise TransientError(f"no connection ({type(error).__name__})") from error
    except requests.RequestException as error:
        raise InputError(f"{url}: cannot be fetched ({error}); check the address") from error
    with closing(response):
        if response.status_code == _RANGE_NOT_SATISFIABLE and have:
            if response.headers.get("Content-Range", "").endswith(f"/{have}"):
                return  # nothing is missing
            partial.unlink()
            raise TransientError("the file is shorter there than what was fetched before")
        _check_answer(url, response)
        if response.status_code == _PARTIAL:
            if not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                partial.unlink(missing_ok=True)
                raise TransientError("the server sent another part than the one asked for")
        elif have:  # it sends the whole file, whatever was asked for
            progress.add(-have)
            have = 0
        _receive(response, partial, have, progress, until)


def _check_answer(url: str, response: requests.Response) -> None:
    status = response.status_code
    if status in _TRY_AGAIN:
        wait = response.headers.get("Retry-After", "")
        raise TransientError(f"the server answered {status}", float(wait) if wait.isdigit() else 0)
    if status not in (200, _PARTIAL):
        login = ", and whether it asks for a login" if status in (401, 403) else ""
        raise InputError(f"{url}: the server answered {status} {response.reason}; check the address{login}")


def _receive(response: requests.Response, partial: Path, have: int, progress: Progress, until: float) -> None:
    """Write the answer's body behind the first `have` bytes of `partial`."""
    expected = int(response.headers.get("Content-Length") or 0)
    progress.expect(have + expected)
    received = 0
    with partial.open("ab" if have else "wb") as file:
        try:
            # read1 gives what is there: read would wait for a whole block, however slowly it comes.
            while block := response.raw.read1(_BLOCK_BYTES, decode_content=False):
                file.write(block)
                progress.add(len(block))
                received += len(block)
                if time.monotonic() > until:
                    raise TransientError("the time is up")
        except (urllib3.exceptions.HTTPError, ConnectionError) as error:
            raise TransientError(f"the connection was cut ({type(error).__name__})") from error
    if received < expected:
        raise TransientError("the connection was cut")


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other process downloads into a folder: two that append to one file would spoil it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _kind(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(64).lstrip()
    if start[:1] == b"<":
        return "; it is an HTML page: is there a login or a proxy in front of the server?"
    return "; the file was changed there, or on its way here"


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _backoff_s(tries: int, retry_policy: RetryPolicy) -> float:
    return min(retry_policy.initial_backoff_s * 2**tries, retry_policy.max_backoff_s) * random.uniform(0.8, 1.2)
