"""Rows 1 to 11 of the fault table: broken sources. Each fault is injected into a real server, file or disk."""

import gzip
import hashlib
import io
import re
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

from components.ct.cases import CASES_FILE
from components.ingest.ingest import ingest
from components.ingest.sources import FetchOptions
from components.ingest.zenodo import SCAN_ARCHIVE
from components.runtime.errors import InputError
from components.storage.gcs import ObjectExistsError, upload_folder
from tests.ingest.conftest import read_files
from tests.ingest.test_sources import SHORT_RETRIES, zip_bytes
from tests.storage.file_server import HttpFault
from tests.storage.gcs_server import BUCKET, Fault, flip

URI = f"gs://{BUCKET}/covid"
SHORT = FetchOptions(retry_policy=SHORT_RETRIES)


@pytest.fixture
def bucket(gcs, cohort):
    """Upload the small cohort to a bucket."""
    upload_folder(cohort, URI)
    gcs.requests.clear()
    return gcs


def ingest_error(source, tmp_path, options=SHORT, at="", **parameters):
    """Return the error of an ingest that must fail soon and leave no files; it starts with the address `at`."""
    before, start_s = read_files(tmp_path), time.monotonic()
    with pytest.raises(InputError) as error:
        ingest(source, tmp_path / "out", options=options, **parameters)
    assert read_files(tmp_path) == before
    assert not (tmp_path / "out").exists()
    assert time.monotonic() - start_s < 10
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(at)
    return message


def test_row_01_wrong_bytes_over_http_are_fetched_again(mirror, file_server, tmp_path):
    file_server.faults.append(HttpFault(content=b"PK wrong bytes"))
    assert len(ingest("zenodo", tmp_path / "out", options=mirror)) == 3


def test_row_01_wrong_bytes_twice_over_http_fail_with_both_digests(mirror, file_server, tmp_path):
    file_server.faults.append(HttpFault(content=b"PK wrong bytes", times=2))
    message = ingest_error("zenodo", tmp_path, mirror, at=f"{file_server.url}/{SCAN_ARCHIVE}: ")
    assert "twice" in message
    assert hashlib.sha256(b"PK wrong bytes").hexdigest() in message
    assert mirror.record.sha256[SCAN_ARCHIVE] in message
    assert len(file_server.requests) == 2


def test_row_01_a_flipped_bit_from_a_bucket_is_fetched_again(bucket, tmp_path):
    bucket.faults.append(Fault("case_1.nii.gz?", edit=flip))
    cases = ingest(URI, tmp_path / "out")
    assert len(cases) == 4
    assert len(bucket.downloads()) == 9


def test_row_01_flipped_bits_twice_from_a_bucket_fail_with_both_digests(bucket, tmp_path):
    bucket.faults.append(Fault("scans/case_1.nii.gz?", edit=flip, times=2))
    message = ingest_error(URI, tmp_path, at=f"{URI}/scans/case_1.nii.gz: ")
    assert "twice" in message
    assert len({*re.findall(r"[\w+/]{6}==", message)}) == 2  # base64 of both CRC32C


def test_row_02_a_cut_download_over_http_is_resumed_and_never_visible_in_part(mirror, file_server, tmp_path):
    seen = []
    size = len(file_server.files[SCAN_ARCHIVE])
    file_server.faults += [
        HttpFault(cut_after=size // 3),
        HttpFault(cut_after=size // 3, before=lambda: seen.extend((tmp_path / "cache").rglob("*.zip"))),
    ]
    assert len(ingest("zenodo", tmp_path / "out", options=mirror)) == 3
    assert seen == []
    assert [byte_range for name, byte_range in file_server.requests if name == SCAN_ARCHIVE] == [
        "",
        f"bytes={size // 3}-",
        f"bytes={2 * (size // 3)}-",
    ]


def test_row_02_a_cut_download_from_a_bucket_is_resumed_and_never_visible_in_part(bucket, tmp_path):
    seen = []
    bucket.faults += [
        Fault("scans/case_1.nii.gz?", cut_after=40),
        Fault("scans/case_1.nii.gz?", before=lambda: seen.extend((tmp_path / "cache").rglob("scans/case_1.nii.gz"))),
    ]
    ingest(URI, tmp_path / "out", options=FetchOptions(tmp_path / "cache"))
    assert bucket.downloads().count("covid/scans/case_1.nii.gz") == 2
    assert seen == []


def test_row_03_endless_503_over_http_ends_at_the_deadline(mirror, file_server, tmp_path):
    file_server.faults.append(HttpFault(status=503, headers={"Retry-After": "3600"}, times=10_000))
    assert "503" in ingest_error("zenodo", tmp_path, mirror, at=f"{file_server.url}/{SCAN_ARCHIVE}: ")


@pytest.mark.parametrize("request_", ["prefix=covid", "scans/case_1.nii.gz?"])
def test_row_03_endless_503_from_a_bucket_ends_at_the_deadline(bucket, tmp_path, request_):
    bucket.faults.append(Fault(request_, status=503, times=10_000))
    assert "503" in ingest_error(URI, tmp_path, at=URI)


@pytest.mark.parametrize("status", [403, 404])
def test_row_04_a_client_error_over_http_is_final(mirror, file_server, tmp_path, status):
    file_server.faults.append(HttpFault(status=status))
    assert str(status) in ingest_error("zenodo", tmp_path, mirror, at=f"{file_server.url}/{SCAN_ARCHIVE}: ")
    assert len(file_server.requests) == 1


@pytest.mark.parametrize(("status", "cause"), [(401, "no usable Google credentials"), (403, "(403)")])
def test_row_04_a_client_error_from_a_bucket_is_final_and_hints_at_credentials(bucket, tmp_path, status, cause):
    bucket.faults.append(Fault("scans/case_1.nii.gz?", status=status, times=99))
    message = ingest_error(URI, tmp_path, at=f"{URI}/scans/case_1.nii.gz: ")
    assert cause in message
    assert "gcloud auth" in message
    assert bucket.downloads().count("covid/scans/case_1.nii.gz") == 1


@pytest.mark.parametrize(
    ("uri", "cause"),
    [("gs://missing/covid", "(404)"), (f"gs://{BUCKET}/missing", "no objects"), (f"gs://{BUCKET}/cov", "no objects")],
)
def test_row_04_a_wrong_bucket_or_prefix_is_reported_with_a_hint_at_credentials(bucket, tmp_path, uri, cause):
    message = ingest_error(uri, tmp_path, at=f"{uri}: ")
    assert cause in message
    assert "gcloud auth" in message


def test_row_04_missing_credentials_are_reported(monkeypatch, tmp_path):
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    assert ingest_error(URI, tmp_path).startswith(f"{URI}: no usable Google credentials")


def test_row_05_an_html_page_saved_as_a_volume_is_recognized(cohort, tmp_path):
    (cohort / "scans" / "case_1.nii.gz").write_bytes(b"<!DOCTYPE html><html>Please log in</html>")
    message = ingest_error(str(cohort), tmp_path)
    assert "case_1.nii.gz: " in message
    assert "HTML page" in message


def test_row_05_an_html_page_instead_of_an_archive_is_recognized(mirror, file_server, tmp_path):
    file_server.faults.append(HttpFault(content=b"<html>Please log in</html>", times=2))
    assert "HTML page" in ingest_error("zenodo", tmp_path, mirror)


def symbolic_link():
    member = zipfile.ZipInfo("link.nii")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


def serve_scans(mirror, file_server, content):
    """Serve an archive of scans with a matching digest."""
    file_server.files[SCAN_ARCHIVE] = content
    digests = {**mirror.record.sha256, SCAN_ARCHIVE: hashlib.sha256(content).hexdigest()}
    return replace(mirror, record=replace(mirror.record, sha256=digests), cache=None)


@pytest.mark.parametrize("member", ["../evil.nii", "/tmp/evil.nii", "..\\evil.nii", symbolic_link()])
def test_row_06_an_archive_with_an_unsafe_member_is_refused_before_unpacking(mirror, file_server, tmp_path, member):
    options = serve_scans(mirror, file_server, zip_bytes({"coronacases_001.nii": b"first", member: b"evil"}))
    assert "nothing was unpacked" in ingest_error("zenodo", tmp_path, options)


def test_row_07_a_zip_bomb_is_stopped_while_streaming(mirror, file_server, tmp_path):
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("coronacases_001.nii", bytes(64 << 20))
    options = serve_scans(mirror, file_server, bomb.getvalue())
    assert re.search("17 MB.*coronacases_001.nii", ingest_error("zenodo", tmp_path, options))


def test_row_07_a_gzip_bomb_is_stopped_while_streaming(cohort, tmp_path):
    scan = cohort / "scans" / "case_1.nii.gz"
    honest = gzip.decompress(scan.read_bytes())
    scan.write_bytes(gzip.compress(honest + bytes(256 << 20), compresslevel=1))
    tracemalloc.start()
    message = ingest_error(str(cohort), tmp_path, workers=1)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert re.search(r"case_1\.nii\.gz: .*\b240\b", message)
    assert peak_bytes < 20e6


def run_ingest(source, out, options="FetchOptions()", before="", wrapper=()):
    """Ingest in a subprocess that prints the remaining files beside the output."""
    code = f"""
import pathlib, resource
from components.runtime.errors import exit_on_input_error
from components.ingest.ingest import ingest
from components.ingest.sources import FetchOptions
out = pathlib.Path({str(out)!r})
out.parent.mkdir(exist_ok=True)
{before}
try:
    with exit_on_input_error():
        ingest({str(source)!r}, out, options={options}, workers=1)
finally:
    print("left:", sorted(str(path) for path in out.parent.rglob("*")))
"""
    return subprocess.run([*wrapper, sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def limit_file_size(size_bytes):
    return f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size_bytes}, {size_bytes}))"


def test_row_08_a_limit_on_file_size_is_a_clean_failure(cohort, tmp_path):
    done = run_ingest(cohort, tmp_path / "disk" / "out", before=limit_file_size(100))
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "File too large" in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout.endswith("left: []\n")


def test_row_08_a_download_that_fills_the_disk_leaves_no_partial_file(file_server, tmp_path):
    file_server.files[SCAN_ARCHIVE] = bytes(200_000)
    cache = tmp_path / "disk" / "cache"
    options = f"FetchOptions(pathlib.Path({str(cache)!r}))"
    done = run_ingest(f"zenodo:{file_server.url}", tmp_path / "disk" / "out", options, before=limit_file_size(100_000))
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert "partial" not in done.stdout.split("left:")[1]


def test_row_08_a_full_disk_is_a_clean_failure(cohort, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("unshare -rm is not permitted here")
    mounted = f'mount -t tmpfs -o size=16k none {disk} && exec "$0" "$@"'
    done = run_ingest(cohort, disk / "out", wrapper=["unshare", "-rm", "sh", "-c", mounted])
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert done.stdout.endswith("left: []\n")


@pytest.mark.parametrize("kind", ["zenodo", "gcs"])
def test_row_09_a_second_run_downloads_nothing_and_gives_the_same_bytes(kind, mirror, file_server, bucket, tmp_path):
    source = {"zenodo": "zenodo", "gcs": URI}[kind]
    ingest(source, tmp_path / "out", options=mirror)
    first = read_files(tmp_path / "out")
    file_server.requests.clear()
    bucket.requests.clear()
    ingest(source, tmp_path / "out", options=mirror)
    assert read_files(tmp_path / "out") == first
    assert file_server.requests == []
    assert bucket.downloads() == []


def ingest_concurrently(sources, tmp_path, push_to):
    """Ingest all sources into one prefix at the same time, and return their outcomes."""
    outcomes = {}

    def run(number, source):
        try:
            ingest(str(source), tmp_path / f"out_{number}", push_to=push_to, workers=1)
            outcomes[number] = "pushed"
        except ObjectExistsError:
            outcomes[number] = "refused"

    threads = [threading.Thread(target=run, args=item) for item in enumerate(sources)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_row_10_two_ingests_of_one_cohort_write_each_object_once(gcs, cohort, tmp_path):
    outcomes = ingest_concurrently([cohort, cohort], tmp_path, URI)
    assert outcomes == {0: "pushed", 1: "pushed"}
    pushed = {name.removeprefix("covid/"): gcs.get(name) for name in gcs.names()}
    assert pushed == {str(name): data for name, data in read_files(tmp_path / "out_0").items()}
    assert sorted(gcs.written) == sorted(gcs.names())  # each object once


def test_row_10_of_two_ingests_of_different_cohorts_one_is_pushed_completely(gcs, cohort, tmp_path, save):
    other = shutil.copytree(cohort, tmp_path / "other")
    save(other / "scans" / "case_2.nii.gz")
    outcomes = ingest_concurrently([cohort, other], tmp_path, URI)
    assert sorted(outcomes.values()) == ["pushed", "refused"]
    (winner,) = (number for number, outcome in outcomes.items() if outcome == "pushed")
    pushed = {name.removeprefix("covid/"): gcs.get(name) for name in gcs.names()}
    assert pushed == {str(name): data for name, data in read_files(tmp_path / f"out_{winner}").items()}
    assert CASES_FILE in pushed


@pytest.mark.parametrize("change", ["put", "delete"])
def test_row_11_an_object_that_changes_after_the_listing_is_refused(bucket, tmp_path, change):
    name = "covid/scans/case_1.nii.gz"
    change_object = {"put": lambda: bucket.put(name, b"another scan"), "delete": lambda: bucket.delete(name)}[change]
    bucket.faults.append(Fault("scans/case_1.nii.gz?", before=change_object))
    assert ingest_error(URI, tmp_path).startswith(f"gs://{BUCKET}/{name}: changed")


def test_row_11_an_object_that_changes_during_the_download_is_refused(bucket, tmp_path):
    name = "covid/scans/case_1.nii.gz"
    bucket.faults += [
        Fault("scans/case_1.nii.gz?", cut_after=40),
        Fault("scans/case_1.nii.gz?", before=lambda: bucket.put(name, bucket.get(name)[::-1])),
    ]
    assert ingest_error(URI, tmp_path, FetchOptions()).startswith(f"gs://{BUCKET}/{name}: changed")
