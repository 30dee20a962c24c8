"""Rows 1 to 11 of the fault table: sources that break. Every fault is injected into a real server, file or disk."""

import gzip
import hashlib
import io
import shutil
import stat
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile
from dataclasses import replace

import pytest

from components.ct.cases import TABLE
from components.ingest.ingest import ingest
from components.ingest.sources import Fetching
from components.runtime.errors import InputError
from components.storage.gcs import ObjectExists, upload_folder
from components.storage.http import RetryPolicy
from tests.ingest.test_sources import zip_bytes
from tests.storage.file_server import Trouble
from tests.storage.gcs_server import BUCKET, Fault, flip

URI = f"gs://{BUCKET}/covid"
SCANS = "COVID-19-CT-Seg_20cases.zip"
HASTY = Fetching(
    retry_policy=RetryPolicy(connect_s=1, read_timeout_s=1, stall_timeout_s=0.5, first_wait_s=0.01, longest_wait_s=0.05)
)


@pytest.fixture
def bucket(gcs, cohort):
    """The small cohort, in a bucket."""
    upload_folder(cohort, URI)
    gcs.requests.clear()
    return gcs


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(source, tmp_path, fetching=HASTY, **parameters):
    """The message of an ingest that must fail and leave nothing behind; nor may it take long."""
    before, began = content(tmp_path), time.monotonic()
    with pytest.raises(InputError) as raised:
        ingest(source, tmp_path / "out", fetching=fetching, **parameters)
    assert content(tmp_path) == before
    assert not (tmp_path / "out").exists()
    assert time.monotonic() - began < 10
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_row_01_wrong_bytes_over_http_are_fetched_once_more(mirror, file_server, tmp_path):
    file_server.troubles.append(Trouble(content=b"PK wrong bytes"))
    assert len(ingest("zenodo", tmp_path / "out", fetching=mirror)) == 3


def test_row_01_wrong_bytes_twice_over_http_fail_with_both_digests(mirror, file_server, tmp_path):
    file_server.troubles.append(Trouble(content=b"PK wrong bytes", times=2))
    message = refused("zenodo", tmp_path, mirror)
    assert f"{file_server.url}/{SCANS}: fetched twice, its sha256 is" in message
    assert hashlib.sha256(b"PK wrong bytes").hexdigest() in message
    assert mirror.record.sha256[SCANS] in message
    assert len(file_server.requests) == 2


def test_row_01_a_flipped_bit_from_a_bucket_is_fetched_once_more(bucket, tmp_path):
    bucket.faults.append(Fault("case_1.nii.gz?", edit=flip))
    cases = ingest(URI, tmp_path / "out")
    assert len(cases) == 4
    assert len(bucket.downloads()) == 9


def test_row_01_flipped_bits_twice_from_a_bucket_fail_with_both_digests(bucket, tmp_path):
    bucket.faults.append(Fault("scans/case_1.nii.gz?", edit=flip, times=2))
    message = refused(URI, tmp_path)
    assert message.startswith(f"{URI}/scans/case_1.nii.gz: fetched twice, its CRC32C is ")
    found, listed = message.split("CRC32C is ")[1].split(" is listed")[0].split(" where ")
    assert len(found) == len(listed) == 8
    assert found != listed


def test_row_02_a_cut_download_over_http_is_resumed_and_never_seen_half(mirror, file_server, tmp_path):
    seen = []
    size = len(file_server.files[SCANS])
    file_server.troubles += [
        Trouble(cut_after=size // 3),
        Trouble(cut_after=size // 3, before=lambda: seen.extend((tmp_path / "cache").rglob("*.zip"))),
    ]
    assert len(ingest("zenodo", tmp_path / "out", fetching=mirror)) == 3
    assert seen == []
    assert [asked for name, asked in file_server.requests if name == SCANS] == [
        "",
        f"bytes={size // 3}-",
        f"bytes={2 * (size // 3)}-",
    ]


def test_row_02_a_cut_download_from_a_bucket_is_resumed_and_never_seen_half(bucket, tmp_path):
    seen = []
    bucket.faults += [
        Fault("scans/case_1.nii.gz?", cut_after=40),
        Fault("scans/case_1.nii.gz?", before=lambda: seen.extend((tmp_path / "cache").rglob("scans/case_1.nii.gz"))),
    ]
    ingest(URI, tmp_path / "out", fetching=Fetching(tmp_path / "cache"))
    assert bucket.downloads().count("covid/scans/case_1.nii.gz") == 2
    assert seen == []


def test_row_03_endless_503_over_http_ends_at_the_deadline(mirror, file_server, tmp_path):
    file_server.troubles.append(Trouble(status=503, headers={"Retry-After": "3600"}, times=10_000))
    message = refused("zenodo", tmp_path, mirror)
    assert f"{file_server.url}/{SCANS}: gave up after" in message
    assert "the server answered 503" in message


@pytest.mark.parametrize("asks_for", ["prefix=covid", "scans/case_1.nii.gz?"])
def test_row_03_endless_503_from_a_bucket_ends_at_the_deadline(bucket, tmp_path, asks_for):
    bucket.faults.append(Fault(asks_for, status=503, times=10_000))
    message = refused(URI, tmp_path)
    assert message.startswith(URI)
    assert "the server goes on failing (" in message
    assert "503" in message


@pytest.mark.parametrize("status", [403, 404])
def test_row_04_a_refusal_over_http_is_final(mirror, file_server, tmp_path, status):
    file_server.troubles.append(Trouble(status=status))
    assert f"{file_server.url}/{SCANS}: the server answered {status}" in refused("zenodo", tmp_path, mirror)
    assert len(file_server.requests) == 1


@pytest.mark.parametrize(("status", "says"), [(401, "no usable Google credentials"), (403, "not permitted (403)")])
def test_row_04_a_refusal_from_a_bucket_is_final_and_hints_at_credentials(bucket, tmp_path, status, says):
    bucket.faults.append(Fault("scans/case_1.nii.gz?", status=status, times=99))
    message = refused(URI, tmp_path)
    assert message.startswith(f"{URI}/scans/case_1.nii.gz: {says}; check the name, and that the credentials may")
    assert bucket.downloads().count("covid/scans/case_1.nii.gz") == 1


def test_row_04_a_wrong_bucket_or_prefix_is_named_at_once_with_a_hint_at_credentials(bucket, tmp_path):
    assert "gs://elsewhere/covid: not found (404); check the name" in refused("gs://elsewhere/covid", tmp_path)
    assert f"gs://{BUCKET}/nothing: holds no objects" in refused(f"gs://{BUCKET}/nothing", tmp_path)
    assert "gcloud auth" in refused(f"gs://{BUCKET}/cov", tmp_path)


def test_row_04_missing_credentials_are_told(monkeypatch, tmp_path):
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    assert refused(URI, tmp_path).startswith(f"{URI}: no usable Google credentials; check the name")


def test_row_05_an_html_page_saved_as_a_volume_is_known_by_its_first_bytes(cohort, tmp_path):
    (cohort / "scans" / "case_1.nii.gz").write_bytes(b"<!DOCTYPE html><html>Please log in</html>")
    message = refused(str(cohort), tmp_path)
    assert "case_1.nii.gz: not a gzip file: it starts with an HTML page; was the download an error page?" in message


def test_row_05_an_html_page_in_an_archives_place_is_told(mirror, file_server, tmp_path):
    file_server.troubles.append(Trouble(content=b"<html>Please log in</html>", times=2))
    assert "it is an HTML page: is there a login or a proxy" in refused("zenodo", tmp_path, mirror)


def symbolic_link():
    member = zipfile.ZipInfo("link.nii")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


def serve_scans(mirror, file_server, content):
    """Put an archive in the place of the scans', as its publisher would: with its own digest."""
    file_server.files[SCANS] = content
    digests = {**mirror.record.sha256, SCANS: hashlib.sha256(content).hexdigest()}
    return replace(mirror, record=replace(mirror.record, sha256=digests), cache=None)


@pytest.mark.parametrize("member", ["../evil.nii", "/tmp/evil.nii", "..\\evil.nii", symbolic_link()])
def test_row_06_an_archive_that_reaches_outside_is_refused_before_anything_is_written(
    mirror, file_server, tmp_path, member
):
    fetching = serve_scans(mirror, file_server, zip_bytes({"coronacases_001.nii": b"first", member: b"evil"}))
    assert "nothing was unpacked" in refused("zenodo", tmp_path, fetching)


def test_row_07_a_zip_bomb_is_stopped_while_it_streams(mirror, file_server, tmp_path):
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("coronacases_001.nii", bytes(64 << 20))
    fetching = serve_scans(mirror, file_server, bomb.getvalue())
    assert "unpacks to more than 17 MB at coronacases_001.nii" in refused("zenodo", tmp_path, fetching)


def test_row_07_a_gzip_bomb_is_stopped_while_it_streams(cohort, tmp_path):
    scan = cohort / "scans" / "case_1.nii.gz"
    honest = gzip.decompress(scan.read_bytes())
    scan.write_bytes(gzip.compress(honest + bytes(256 << 20), compresslevel=1))
    tracemalloc.start()
    message = refused(str(cohort), tmp_path, workers=1)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "case_1.nii.gz: holds more bytes than the 240 of voxels that its header declares" in message
    assert peak_bytes < 20e6


def run_ingest(source, out, fetching="Fetching()", before="", wrapper=()):
    """Ingest in a process of its own; print what is left in the folder of the output."""
    code = f"""
import pathlib, resource
from components.runtime.errors import exit_on_input_error
from components.ingest.ingest import ingest
from components.ingest.sources import Fetching
from components.ingest.zenodo import COVID_CT_SEG
out = pathlib.Path({str(out)!r})
out.parent.mkdir(exist_ok=True)
{before}
try:
    with exit_on_input_error():
        ingest({str(source)!r}, out, fetching={fetching}, workers=1)
finally:
    print("left:", sorted(str(path) for path in out.parent.rglob("*")))
"""
    return subprocess.run([*wrapper, sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def limited_to(size_bytes):
    return f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size_bytes}, {size_bytes}))"


def test_row_08_a_file_that_cannot_grow_is_a_clean_failure(cohort, tmp_path):
    done = run_ingest(cohort, tmp_path / "disk" / "out", before=limited_to(100))
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.endswith("File too large; nothing was left half-written\n")
    assert done.stderr.count("\n") == 1
    assert done.stdout.endswith("left: []\n")


def test_row_08_a_download_that_fills_the_disk_leaves_no_partial_file(file_server, tmp_path):
    file_server.files[SCANS] = bytes(200_000)
    cache = tmp_path / "disk" / "cache"
    fetching = f"Fetching(pathlib.Path({str(cache)!r}))"
    done = run_ingest(f"zenodo:{file_server.url}", tmp_path / "disk" / "out", fetching, before=limited_to(100_000))
    assert done.returncode == 1
    assert "File too large; nothing was left half-written" in done.stderr
    assert "partial" not in done.stdout.split("left:")[1]


def test_row_08_a_full_disk_is_a_clean_failure(cohort, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("needs a mount of its own: unshare -rm is not permitted here")
    mounted = f'mount -t tmpfs -o size=16k none {disk} && exec "$0" "$@"'
    done = run_ingest(cohort, disk / "out", wrapper=["unshare", "-rm", "sh", "-c", mounted])
    assert done.returncode == 1
    assert "No space left on device; nothing was left half-written" in done.stderr
    assert done.stdout.endswith("left: []\n")


@pytest.mark.parametrize("kind", ["zenodo", "gcs"])
def test_row_09_the_same_run_again_downloads_nothing_and_gives_the_same_bytes(
    kind, mirror, file_server, bucket, tmp_path
):
    source = {"zenodo": "zenodo", "gcs": URI}[kind]
    ingest(source, tmp_path / "out", fetching=mirror)
    first = content(tmp_path / "out")
    file_server.requests.clear()
    bucket.requests.clear()
    ingest(source, tmp_path / "out", fetching=mirror)
    assert content(tmp_path / "out") == first
    assert file_server.requests == []
    assert bucket.downloads() == []


def ingest_at_once(sources, tmp_path, push_to):
    """Ingest each source into one prefix, all at the same time; give what came of each."""
    outcomes = {}

    def run(number, source):
        try:
            ingest(str(source), tmp_path / f"out_{number}", push_to=push_to, workers=1)
            outcomes[number] = "pushed"
        except ObjectExists:
            outcomes[number] = "gave way"

    threads = [threading.Thread(target=run, args=item) for item in enumerate(sources)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_row_10_of_two_ingests_of_one_cohort_one_wins_and_the_other_reuses_it(gcs, cohort, tmp_path):
    outcomes = ingest_at_once([cohort, cohort], tmp_path, URI)
    assert outcomes == {0: "pushed", 1: "pushed"}
    pushed = {name.removeprefix("covid/"): gcs.get(name) for name in gcs.names()}
    assert pushed == {str(name): data for name, data in content(tmp_path / "out_0").items()}
    assert sorted(gcs.written) == sorted(gcs.names())  # each object once


def test_row_10_of_two_ingests_of_different_cohorts_one_wins_whole(gcs, cohort, tmp_path, save):
    other = shutil.copytree(cohort, tmp_path / "other")
    save(other / "scans" / "case_2.nii.gz")
    outcomes = ingest_at_once([cohort, other], tmp_path, URI)
    assert sorted(outcomes.values()) == ["gave way", "pushed"]
    (winner,) = (number for number, outcome in outcomes.items() if outcome == "pushed")
    pushed = {name.removeprefix("covid/"): gcs.get(name) for name in gcs.names()}
    assert pushed == {str(name): data for name, data in content(tmp_path / f"out_{winner}").items()}
    assert TABLE in pushed


@pytest.mark.parametrize("change", ["put", "delete"])
def test_row_11_an_object_that_changes_after_it_was_listed_is_not_taken(bucket, tmp_path, change):
    name = "covid/scans/case_1.nii.gz"
    happens = {"put": lambda: bucket.put(name, b"another scan"), "delete": lambda: bucket.delete(name)}[change]
    bucket.faults.append(Fault("scans/case_1.nii.gz?", before=happens))
    assert refused(URI, tmp_path) == (
        f"gs://{BUCKET}/{name}: changed while it was read; run again once nothing writes to it"
    )


def test_row_11_an_object_that_changes_between_two_parts_is_not_taken(bucket, tmp_path):
    name = "covid/scans/case_1.nii.gz"
    bucket.faults += [
        Fault("scans/case_1.nii.gz?", cut_after=40),
        Fault("scans/case_1.nii.gz?", before=lambda: bucket.put(name, bucket.get(name)[::-1])),
    ]
    assert "changed while it was read" in refused(URI, tmp_path, Fetching())
