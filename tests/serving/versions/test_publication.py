"""Publication: atomic, numbered upwards, never overwriting."""

import multiprocessing
import os
import re
import signal
import threading
import time
from datetime import timedelta

import pytest

from components.runtime.errors import InputError
from pipelines.cli import main
from serving.versions import publication
from serving.versions.layout import complete_versions, version_numbers
from serving.versions.publication import find_incomplete, publish
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


def test_a_killed_export_publishes_no_version(tmp_path, monkeypatch):
    started = multiprocessing.Event()
    process = multiprocessing.get_context("fork").Process(target=_publish_slowly, args=(tmp_path, started))
    process.start()
    assert started.wait(30)
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    assert version_numbers(str(tmp_path)) == []
    assert publish(str(tmp_path), write_model) == str(tmp_path / "1")
    assert len(find_incomplete(str(tmp_path))) == 1
    monkeypatch.setattr(publication, "ABANDONED_AFTER", timedelta(0))
    assert publish(str(tmp_path), write_model) == str(tmp_path / "2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


def test_an_export_in_a_pod_that_has_the_process_id_of_a_killed_one_succeeds(tmp_path):
    (tmp_path / f".staging-{os.getpid()}").mkdir()
    assert publish(str(tmp_path), write_model) == str(tmp_path / "1")


def test_version_numbers_are_those_of_tf_serving(tmp_path):
    """tensorflow/serving, file_system_storage_path_source.cc: ParseVersionNumber is absl::SimpleAtoi to int64."""
    for name in ("7", "007", "+9", " 3", "-3", str(2**63 - 1), str(2**63), "1.5", "1e3", "٣", "0x1", "1_0", ".4", "v5"):
        (tmp_path / name).mkdir()
    assert version_numbers(str(tmp_path)) == [-3, 3, 7, 9, 2**63 - 1]
    with pytest.raises(InputError, match=f"{2**63 - 1}.*highest"):
        publish(str(tmp_path), write_model)
    (tmp_path / str(2**63 - 1)).rmdir()
    assert publish(str(tmp_path), write_model) == str(tmp_path / "10")


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


def test_saved_model_pb_appears_last_and_no_object_is_overwritten(gcs):
    assert publish(BASE, write_model) == f"{BASE}/1"
    assert publish(BASE, write_model) == f"{BASE}/2"
    assert version_numbers(BASE) == [1, 2]
    assert gcs.names()[-1] == "models/lung/2/saved_model.pb"
    assert all(name.startswith(("models/lung/1/", "models/lung/2/")) for name in gcs.names())
    uploads = [path for method, path in gcs.requests if method == "POST"]
    assert uploads
    assert all("ifGenerationMatch=0" in path for path in uploads)


def _write_files(folder):
    for name in ("assets.extra/MANIFEST.sha256", "saved_model.pb", "variables/variables.index"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)


def _kill_export(gcs, name, method="POST", after=0):
    """Publish in a process, and kill it while it waits for the answer to a request after so many of its kind."""
    reached, release = threading.Event(), threading.Event()

    def block():
        reached.set()
        release.wait(60)

    gcs.faults += [Fault(name, method, before=lambda: None, times=after), Fault(name, method, before=block)]
    process = multiprocessing.get_context("fork").Process(target=publish, args=(BASE, _write_files))
    process.start()
    try:
        assert reached.wait(60)
        os.kill(process.pid, signal.SIGKILL)
        process.join(30)
    finally:
        release.set()
        gcs.faults.clear()


def _servable(gcs):
    """The version that a starting server of the newest version loads, and whether it can.

    As tensorflow/serving, sources/storage_path/file_system_storage_path_source.cc: AspireLatestVersions takes the
    highest number among the prefixes, complete or not.
    """
    names = [name.removeprefix("models/lung/") for name in gcs.names()]
    numbers = {int(name.partition("/")[0]) for name in names if name.partition("/")[0].isdecimal()}
    return max(numbers), {f"{max(numbers)}/{name}" for name in ("saved_model.pb", "variables/variables.index")} <= {
        *names
    }


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_an_export_killed_while_it_uploads_leaves_the_version_before_the_newest(gcs, after):
    publish(BASE, _write_files)
    _kill_export(gcs, "/upload/", after=after)
    assert _servable(gcs) == (1, True)
    assert publish(BASE, _write_files) == f"{BASE}/3"  # number 2 stays reserved
    assert _servable(gcs) == (3, True)


def test_an_export_killed_while_its_version_appears_is_superseded_and_removed_by_the_next(gcs, monkeypatch):
    """Cloud Storage cannot rename a folder: for the moment between the first and the last copy, 2/ is incomplete."""
    publish(BASE, _write_files)
    _kill_export(gcs, "/rewriteTo/", after=1)
    assert _servable(gcs) == (2, False)
    assert publish(BASE, _write_files) == f"{BASE}/3"
    assert _servable(gcs) == (3, True)
    assert [folder.name for folder in find_incomplete(BASE)] == [".staging-2", "2"]  # may still be written
    monkeypatch.setattr(publication, "ABANDONED_AFTER", timedelta(0))
    assert publish(BASE, _write_files) == f"{BASE}/4"
    assert {name.split("/")[2] for name in gcs.names()} == {"1", "3", "4"}


def test_an_incomplete_folder_that_no_export_wrote_is_listed_and_removed_on_request(gcs, monkeypatch, tmp_path, capsys):
    publish(BASE, _write_files)
    gcs.put("models/lung/2/variables/data", b"by hand")
    command = ["versions", "list", "--model-base", BASE, "--config", str(tmp_path / "models.config")]
    monkeypatch.setattr(publication, "ABANDONED_AFTER", timedelta(0))
    assert publish(BASE, _write_files) == f"{BASE}/3"
    main(command)
    assert re.search(r"/lung/2  incomplete since .*--remove-incomplete$", capsys.readouterr().out, re.M)
    main([*command, "--remove-incomplete"])
    assert f"{BASE}/2: removed" in capsys.readouterr().out
    assert {name.split("/")[2] for name in gcs.names()} == {"1", "3"}


def test_a_failed_upload_is_deleted(gcs):
    gcs.faults.append(Fault("/rewriteTo/b/hospital/o/models/lung/1/saved", "POST", status=403))
    with pytest.raises(InputError, match=r"1/saved_model\.pb: not permitted"):
        publish(BASE, _write_files)
    assert gcs.names() == []


def test_concurrent_exports_to_a_bucket_get_different_complete_versions(gcs):
    """Also if the versions have equal files: none relies on an object that another one may delete."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=publish, args=(BASE, _write_files)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert list(complete_versions(BASE)) == version_numbers(BASE)
    assert len(gcs.names()) == 4 * 3


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
