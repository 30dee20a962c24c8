"""HTTP downloads, against a local server."""

import hashlib
import re
import time

import numpy as np
import pytest

from components.runtime.errors import InputError
from components.storage.http import RetryPolicy, download
from tests.storage.file_server import HttpFault

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HASTY = RetryPolicy(
    connect_timeout_s=1,
    read_timeout_s=1,
    stall_timeout_s=0.5,
    deadline_s=10,
    initial_backoff_s=0.01,
    max_backoff_s=0.05,
)


@pytest.fixture
def fetch(file_server, tmp_path):
    """A function that downloads the server's file and returns its path."""
    file_server.files["scan.zip"] = CONTENT

    def fetch_scan(retry_policy=HASTY):
        download(
            f"{file_server.url}/scan.zip", tmp_path / "cache" / "scan.zip", sha256=SHA256, retry_policy=retry_policy
        )
        return tmp_path / "cache" / "scan.zip"

    return fetch_scan


def names_in(folder):
    return sorted(path.name for path in folder.rglob("*"))


def test_an_existing_file_is_downloaded_again_only_if_its_digest_differs(fetch, file_server):
    assert fetch().read_bytes() == CONTENT
    path = fetch()
    assert len(file_server.requests) == 1
    assert names_in(path.parent) == ["scan.zip"]
    path.write_bytes(b"corrupt")
    assert fetch().read_bytes() == CONTENT


def test_after_a_cut_only_the_rest_is_requested(fetch, file_server):
    file_server.faults += [HttpFault(cut_after=100_000), HttpFault(cut_after=50_000)]
    assert fetch().read_bytes() == CONTENT
    assert file_server.requests == [("scan.zip", ""), ("scan.zip", "bytes=100000-"), ("scan.zip", "bytes=150000-")]


@pytest.mark.parametrize("fault", [HttpFault(whole=True), HttpFault(shift=7)])
def test_a_server_may_ignore_or_miss_the_requested_range(fetch, file_server, fault):
    file_server.faults += [HttpFault(cut_after=100_000), fault]
    assert fetch().read_bytes() == CONTENT


def test_a_partial_download_of_a_killed_run_is_resumed(fetch, file_server, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / f".scan.zip.{SHA256[:12]}.partial").write_bytes(CONTENT[:200_000])
    assert fetch().read_bytes() == CONTENT
    assert file_server.requests == [("scan.zip", "bytes=200000-")]


@pytest.mark.parametrize("partial", [CONTENT, CONTENT + b"more", b"x" * len(CONTENT)])
def test_a_partial_download_may_be_complete_too_long_or_wrong(fetch, tmp_path, partial):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / f".scan.zip.{SHA256[:12]}.partial").write_bytes(partial)
    assert fetch().read_bytes() == CONTENT
    assert names_in(tmp_path / "cache") == ["scan.zip"]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_transient_failures_are_retried(fetch, file_server, status):
    file_server.faults.append(HttpFault(status=status, headers={"Retry-After": "1"}, times=2))
    assert fetch().read_bytes() == CONTENT


@pytest.mark.parametrize(("status", "hint"), [(403, "login"), (404, "address")])
def test_a_refusal_is_final(fetch, file_server, status, hint):
    file_server.faults.append(HttpFault(status=status))
    with pytest.raises(InputError, match=rf"/scan\.zip: .*\b{status}\b.*{hint}"):
        fetch()
    assert len(file_server.requests) == 1


def test_a_silent_server_times_out(fetch, file_server):
    file_server.faults.append(HttpFault(delay_s=0.6, times=9))
    with pytest.raises(InputError, match=r"/scan\.zip: .*\d s.*ReadTimeout"):
        fetch(RetryPolicy(connect_timeout_s=1, read_timeout_s=0.2, stall_timeout_s=0.5, initial_backoff_s=0.01))


def test_a_server_that_refuses_connections_is_named_after_the_first_failure_and_given_up_soon(tmp_path, caplog):
    url, policy = "http://127.0.0.1:9/scan.zip", RetryPolicy(refusal_timeout_s=0.3, initial_backoff_s=0.1)
    with pytest.raises(InputError, match=rf"^{url}: gave up after 0 s: 127\.0\.0\.1:9 refuses connections"):
        download(url, tmp_path / "cache" / "scan.zip", sha256=SHA256, retry_policy=policy)
    (line,) = caplog.messages
    assert re.search(r"127\.0\.0\.1:9 refuses connections; trying again for up to 0 s", line)


def test_a_server_that_fails_for_a_while_is_named_once(fetch, file_server, caplog):
    file_server.faults.append(HttpFault(status=503, times=3))
    fetch(RetryPolicy(initial_backoff_s=0.01))
    (line,) = (line for line in caplog.messages if "trying again" in line)
    assert "503; trying again for up to 120 s" in line


def test_repeated_cuts_end_at_the_deadline_and_keep_the_partial_download(fetch, file_server, tmp_path):
    file_server.faults.append(HttpFault(cut_after=500, times=10_000))
    began = time.monotonic()
    with pytest.raises(InputError, match=r"/scan\.zip: .*\d s.*(cut|deadline)"):
        fetch(RetryPolicy(stall_timeout_s=5, deadline_s=0.5, initial_backoff_s=0.01, max_backoff_s=0.02))
    assert time.monotonic() - began < 3
    assert names_in(tmp_path / "cache") == [f".scan.zip.{SHA256[:12]}.partial"]
    file_server.faults.clear()
    assert fetch().read_bytes() == CONTENT


@pytest.mark.parametrize("url", ["ftp://host/x", "host", "http://"])
def test_an_invalid_address_is_refused(tmp_path, url):
    with pytest.raises(InputError, match=f"^{url}: "):
        download(url, tmp_path / "x", sha256=SHA256, retry_policy=HASTY)


def test_progress_is_logged_without_a_terminal(fetch, caplog):
    fetch()
    assert "scan.zip: 0.3 of 0.3 MB (100%)" in caplog.text
