"""Publication: atomic, numbered upwards, never overwriting."""

import multiprocessing
import os
import signal
import time

import pytest

from components.runtime.errors import InputError
from serving.versions.layout import version_numbers
from serving.versions.publication import publish
from tests.storage.gcs_server import BUCKET, Fault


def write_model(folder):
    (folder / "variables").mkdir()
    (folder / "saved_model.pb").write_bytes(b"graph")


def test_a_version_gets_the_next_number_after_the_highest(tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "notes").mkdir()
    assert publish(str(tmp_path), write_model) == str(tmp_path / "8")
    assert publish(str(tmp_path), write_model) == str(tmp_path / "9")
    assert version_numbers(str(tmp_path)) == [7, 8, 9]
    assert sorted(path.name for path in (tmp_path / "9").iterdir()) == ["saved_model.pb", "variables"]


def test_a_failed_export_leaves_no_files(tmp_path):
    def fail(folder):
        write_model(folder)
        raise RuntimeError("parity")

    with pytest.raises(RuntimeError):
        publish(str(tmp_path / "base"), fail)
    assert list((tmp_path / "base").iterdir()) == []


def test_a_base_that_cannot_be_written_is_an_error_with_its_path(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=f"{tmp_path}/file: "):
        publish(str(tmp_path / "file"), write_model)


def _publish_slowly(base, started):
    def write(folder):
        write_model(folder)
        started.set()
        time.sleep(60)

    publish(str(base), write)


def test_a_killed_export_publishes_no_version(tmp_path):
    started = multiprocessing.Event()
    process = multiprocessing.get_context("fork").Process(target=_publish_slowly, args=(tmp_path, started))
    process.start()
    assert started.wait(30)
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    assert version_numbers(str(tmp_path)) == []
    assert publish(str(tmp_path), write_model) == str(tmp_path / "1")


def _publish_many(base):
    for _ in range(5):
        publish(str(base), write_model)


def test_concurrent_exports_get_different_numbers(tmp_path):
    processes = [multiprocessing.get_context("fork").Process(target=_publish_many, args=(tmp_path,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert version_numbers(str(tmp_path)) == list(range(1, 21))


BASE = f"gs://{BUCKET}/models/lung"


def test_saved_model_pb_is_uploaded_last_and_no_object_is_overwritten(gcs):
    assert publish(BASE, write_model) == f"{BASE}/1"
    assert publish(BASE, write_model) == f"{BASE}/2"
    assert version_numbers(BASE) == [1, 2]
    assert gcs.names()[-1] == "models/lung/2/saved_model.pb"
    uploads = [path for method, path in gcs.requests if method == "POST"]
    assert uploads
    assert all("ifGenerationMatch=0" in path for path in uploads)


def test_a_version_written_by_a_concurrent_export_is_not_overwritten(gcs):
    def write(folder):
        (folder / "saved_model.pb").write_bytes(b"ours")

    def another_export():
        gcs.put("models/lung/1/saved_model.pb", b"theirs")

    gcs.faults.append(Fault("upload", "POST", before=another_export))
    assert publish(BASE, write) == f"{BASE}/2"
    assert gcs.get("models/lung/1/saved_model.pb") == b"theirs"
    assert gcs.get("models/lung/2/saved_model.pb") == b"ours"


def test_a_failed_check_uploads_nothing(gcs):
    def fail(folder):
        write_model(folder)
        raise InputError("parity")

    with pytest.raises(InputError):
        publish(BASE, fail)
    assert not [path for method, path in gcs.requests if method == "POST"]
