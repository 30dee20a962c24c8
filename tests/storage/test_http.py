"""Downloads, against a real server."""

import hashlib
import time

import numpy as np
import pytest

from components.runtime.errors import InputError
from components.storage.http import RetryPolicy, download
from tests.storage.file_server import Trouble

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HASTY = RetryPolicy(
    connect_timeout_s=1, read_timeout_s=1, stall_timeout_s=0.5, deadline_s=10, initial_backoff_s=0.01, max_backoff_s=0.05
)


@pytest.fixture
def fetch(file_server, tmp_path):
    """A function that fetches the one file there, with little retry_policy, and gives its path."""
    file_server.files["scan.zip"] = CONTENT

    def fetched(retry_policy=HASTY):
        download(f"{file_server.url}/scan.zip", tmp_path / "cache" / "scan.zip", SHA256, retry_policy)
        return tmp_path / "cache" / "scan.zip"

    return fetched


def left_in(folder):
    return sorted(path.name for path in folder.rglob("*"))


def test_a_file_that_is_there_is_not_fetched_again(fetch, file_server):
    assert fetch().read_bytes() == CONTENT
    fetch()
    assert len(file_server.requests) == 1
    assert left_in(fetch().parent) == ["scan.zip"]


def test_a_file_there_with_another_digest_is_fetched_anew(fetch, file_server):
    fetch().write_bytes(b"spoilt")
    assert fetch().read_bytes() == CONTENT


def test_after_a_cut_only_the_rest_is_asked_for(fetch, file_server):
    file_server.troubles += [Trouble(cut_after=100_000), Trouble(cut_after=50_000)]
    assert fetch().read_bytes() == CONTENT
    assert file_server.requests == [("scan.zip", ""), ("scan.zip", "bytes=100000-"), ("scan.zip", "bytes=150000-")]


@pytest.mark.parametrize("trouble", [Trouble(whole=True), Trouble(shift=7)])
def test_a_server_that_does_not_keep_to_the_range_is_coped_with(fetch, file_server, trouble):
    file_server.troubles += [Trouble(cut_after=100_000), trouble]
    assert fetch().read_bytes() == CONTENT


def test_what_a_killed_run_left_is_taken_up(fetch, file_server, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / f".scan.zip.{SHA256[:12]}.partial").write_bytes(CONTENT[:200_000])
    assert fetch().read_bytes() == CONTENT
    assert file_server.requests == [("scan.zip", "bytes=200000-")]


@pytest.mark.parametrize("left", [CONTENT, CONTENT + b"more", b"x" * len(CONTENT)])
def test_what_was_left_may_be_whole_or_too_long_or_wrong(fetch, tmp_path, left):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / f".scan.zip.{SHA256[:12]}.partial").write_bytes(left)
    assert fetch().read_bytes() == CONTENT
    assert left_in(tmp_path / "cache") == ["scan.zip"]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_server_that_is_busy_for_a_moment_is_asked_again(fetch, file_server, status):
    file_server.troubles.append(Trouble(status=status, headers={"Retry-After": "1"}, times=2))
    assert fetch().read_bytes() == CONTENT


@pytest.mark.parametrize(("status", "says"), [(403, "whether it asks for a login"), (404, "check the address")])
def test_a_refusal_is_final(fetch, file_server, status, says):
    file_server.troubles.append(Trouble(status=status))
    with pytest.raises(InputError, match=rf"/scan\.zip: the server answered {status} .*{says}"):
        fetch()
    assert len(file_server.requests) == 1


def test_a_server_that_is_silent_is_given_up(fetch, file_server):
    file_server.troubles.append(Trouble(delay_s=0.6, times=9))
    with pytest.raises(InputError, match=r"gave up after \d s: no connection \(ReadTimeout\)"):
        fetch(RetryPolicy(connect_timeout_s=1, read_timeout_s=0.2, stall_timeout_s=0.5, initial_backoff_s=0.01))


def test_a_server_that_is_not_there_is_given_up(tmp_path):
    with pytest.raises(InputError, match=r"gave up after \d s: no connection"):
        download("http://127.0.0.1:9/scan.zip", tmp_path / "cache" / "scan.zip", SHA256, HASTY)


def test_cuts_without_end_are_given_up_at_the_deadline_and_what_came_is_kept(fetch, file_server, tmp_path):
    file_server.troubles.append(Trouble(cut_after=500, times=10_000))
    began = time.monotonic()
    with pytest.raises(InputError, match=r"gave up after \d s: the (connection was cut|time is up).*; try again later"):
        fetch(RetryPolicy(1, 1, stall_timeout_s=5, deadline_s=0.5, initial_backoff_s=0.01, max_backoff_s=0.02))
    assert time.monotonic() - began < 3
    assert left_in(tmp_path / "cache") == [f".scan.zip.{SHA256[:12]}.partial"]
    file_server.troubles.clear()
    assert fetch().read_bytes() == CONTENT


@pytest.mark.parametrize("url", ["ftp://host/x", "nowhere", "http://"])
def test_an_address_that_is_none_is_refused(tmp_path, url):
    with pytest.raises(InputError, match="check the address"):
        download(url, tmp_path / "x", SHA256, HASTY)


def test_progress_is_told_by_lines_where_there_is_no_terminal(fetch, capsys):
    fetch()
    assert "scan.zip: 0.3 of 0.3 MB (100%)" in capsys.readouterr().out
