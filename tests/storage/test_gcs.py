"""Cloud Storage, against an emulator."""

import re
import threading
import time

import numpy as np
import pytest

from components.runtime.errors import InputError
from components.storage.gcs import (
    ObjectExistsError,
    copy_folder,
    delete_prefix,
    download_prefix,
    list_names,
    upload_folder,
)
from components.storage.gcs_uri import GcsUri
from tests.storage.gcs_server import BUCKET, Fault

URI = f"gs://{BUCKET}/cohort"
NOISE = np.random.default_rng(0).bytes(300_000)


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    for name in ("saved_model.pb", "assets.extra/warmup", "variables/data", "variables/index"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode() + NOISE[:1000])
    return folder


def test_a_folder_is_downloaded_as_uploaded(gcs, model, tmp_path):
    (model / "variables" / "data").write_bytes(NOISE * 30)  # 9 MB: a resumable upload
    names = upload_folder(model, URI)
    assert download_prefix(URI, tmp_path / "back") == sorted(names) == list_names(URI)
    assert files(tmp_path / "back") == files(model)


def test_the_last_object_is_written_last_every_write_requires_absence_and_uploads_are_repeatable(gcs, model):
    upload_folder(model, URI, last="saved_model.pb")
    assert gcs.names()[-1] == "cohort/saved_model.pb"
    assert ["ifGenerationMatch=0" in path for method, path in gcs.requests if method == "POST"] == [True] * 4
    before = {name: gcs.generation(BUCKET, name) for name in gcs.names()}
    upload_folder(model, URI)
    assert {name: gcs.generation(BUCKET, name) for name in gcs.names()} == before


def test_an_object_with_other_content_is_not_overwritten_and_the_upload_is_rolled_back(gcs, model):
    gcs.put("cohort/variables/index", b"other content")
    with pytest.raises(ObjectExistsError, match=f"{URI}/variables/index: "):
        upload_folder(model, URI)
    assert gcs.names() == ["cohort/variables/index"]
    assert gcs.get("cohort/variables/index") == b"other content"


def test_one_of_two_concurrent_uploads_wins_completely(gcs, model, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for name, content in files(model).items():
        (other / name).parent.mkdir(exist_ok=True)
        (other / name).write_bytes(content if name.startswith("assets") else content + b"!")
    outcomes = {}

    def upload(folder):
        try:
            upload_folder(folder, URI, last="saved_model.pb")
            outcomes[folder] = "complete"
        except ObjectExistsError:
            outcomes[folder] = "rolled back"

    threads = [threading.Thread(target=upload, args=(folder,)) for folder in (model, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = (folder for folder, outcome in outcomes.items() if outcome == "complete")
    assert {name: gcs.get(f"cohort/{name}") for name in files(winner)} == files(winner)


def test_only_included_objects_below_the_prefix_are_downloaded(gcs, tmp_path):
    for name in ("cohort/a.nii", "cohort/b.txt", "cohort/deep/", "cohort/deep/c.nii", "cohort2/d.nii", "e.nii"):
        gcs.put(name, name.encode())
    names = download_prefix(URI + "/", tmp_path / "out", include=lambda name: name.endswith(".nii"))
    assert names == ["a.nii", "deep/c.nii"]
    assert list_names(f"gs://{BUCKET}") == sorted(set(gcs.names()) - {"cohort/deep/"})


def test_unchanged_files_are_not_downloaded_again(gcs, tmp_path):
    gcs.put("cohort/a", NOISE)
    gcs.put("cohort/b", b"old")
    download_prefix(URI, tmp_path)
    gcs.put("cohort/b", b"new")
    gcs.requests.clear()
    download_prefix(URI, tmp_path)
    assert gcs.downloads() == ["cohort/b"]
    assert (tmp_path / "b").read_bytes() == b"new"


@pytest.mark.parametrize("name", ["/etc/evil", "../evil", "a/../../evil"])
def test_a_name_that_leaves_the_folder_is_refused_before_any_download(gcs, tmp_path, name):
    gcs.put("cohort/good", b"1")
    gcs.put("cohort/bad", b"1")
    # Cloud Storage accepts such names; the emulator does not.
    gcs.faults.append(Fault("prefix=cohort", edit=lambda body: body.replace(b"cohort/bad", b"cohort/" + name.encode())))
    with pytest.raises(InputError, match=f"{URI}/{name}: "):
        download_prefix(URI, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_transient_failures_are_retried(gcs, tmp_path, status):
    gcs.put("cohort/a", NOISE)
    gcs.faults.append(Fault("alt=media", status=status))
    download_prefix(URI, tmp_path)
    assert (tmp_path / "a").read_bytes() == NOISE


@pytest.mark.parametrize("uri", ["gs://", "gs://B", "gs://UPPER/x", "s3://bucket/x", "gs:/bucket"])
def test_an_invalid_uri_is_refused(uri):
    with pytest.raises(InputError, match="expected gs://bucket/prefix"):
        GcsUri.parse(uri)


def test_a_copy_whose_answer_is_lost_counts_as_written_and_overwrites_nothing(gcs, model, tmp_path):
    upload_folder(model, URI)
    gcs.faults.append(Fault("/rewriteTo/", "POST", cut_after=0))  # the retry finds its own object
    copy_folder(URI, f"gs://{BUCKET}/copy", last="saved_model.pb")
    assert gcs.names()[-1] == "copy/saved_model.pb"
    download_prefix(f"gs://{BUCKET}/copy", tmp_path / "back")
    assert files(tmp_path / "back") == files(model)
    gcs.put("copy/saved_model.pb", b"other content")
    with pytest.raises(ObjectExistsError, match=r"copy/saved_model\.pb: "):
        copy_folder(URI, f"gs://{BUCKET}/copy", last="saved_model.pb")
    assert gcs.get("copy/saved_model.pb") == b"other content"


def test_a_prefix_is_deleted_and_a_whole_bucket_is_not(gcs):
    for name in ("cohort/a", "cohort/deep/b", "cohort2/c"):
        gcs.put(name, b"1")
    delete_prefix(URI)
    assert gcs.names() == ["cohort2/c"]
    with pytest.raises(InputError, match="whole bucket"):
        delete_prefix(f"gs://{BUCKET}")


@pytest.mark.parametrize(("host", "cause"), [("127.0.0.1:9", "refuses connections"), ("no.invalid:9", "unknown host")])
def test_a_server_that_is_not_there_is_named_after_the_first_failure_and_given_up_soon(
    monkeypatch, tmp_path, caplog, host, cause
):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://{host}")
    monkeypatch.setattr("components.storage.gcs_requests.REFUSAL_TIMEOUT_S", 0.2)
    began = time.monotonic()
    with pytest.raises(InputError, match=rf"^{URI}: .*{host}.*{cause}.*STORAGE_EMULATOR_HOST"):
        download_prefix(URI, tmp_path)
    assert time.monotonic() - began < 30  # a few seconds, not the 180 of other failures
    (line,) = (line for line in caplog.messages if "trying again" in line)
    assert re.search(rf"{host}.*{cause}.*0 s", line)


def test_a_server_that_answers_503_is_waited_for_and_named_once(gcs, tmp_path, caplog):
    gcs.put("cohort/Meier", NOISE)
    gcs.faults.append(Fault("alt=media", status=503, times=3))
    download_prefix(URI, tmp_path)
    (line,) = (line for line in caplog.messages if "trying again" in line)
    assert "503" in line
    assert "180 s" in line
    assert "Meier" not in line
