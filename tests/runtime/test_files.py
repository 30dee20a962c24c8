"""Atomic writes, and the paths that cannot be written."""

import os
from pathlib import Path

import pytest

from components.runtime.errors import InputError
from components.runtime.files import atomic_write, check_writable


def write_folder(folder, name):
    with atomic_write(folder) as temporary:
        temporary.mkdir()
        (temporary / name).touch()
        if name == "half":
            raise RuntimeError


def test_a_failed_write_keeps_what_existed_and_a_later_one_replaces_it(tmp_path):
    write_folder(tmp_path / "out", "first")
    with pytest.raises(RuntimeError):
        write_folder(tmp_path / "out", "half")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "first"]
    write_folder(tmp_path / "out", "second")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "second"]


def test_remains_of_a_killed_process_with_the_same_id_are_removed(tmp_path):
    child = os.fork()
    if not child:
        with atomic_write(tmp_path / "out") as temporary:
            temporary.mkdir()
            (temporary / "half").touch()
            os._exit(0)
    os.waitpid(child, 0)
    (remains,) = tmp_path.iterdir()
    remains.rename(remains.with_name(remains.name.replace(str(child), str(os.getpid()))))
    write_folder(tmp_path / "out", "whole")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "whole"]


@pytest.mark.parametrize("name", ["m" * 255, "ü" * 124 + ".nii.gz", "肺" * 82 + ".nii.gz", "x"])
def test_every_name_that_the_file_system_takes_can_be_written(tmp_path, name):
    with atomic_write(tmp_path / name) as temporary:
        temporary.write_text("whole")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "whole"}


def test_files_written_at_the_same_time_have_temporary_names_of_their_own(tmp_path):
    names = ["m" * 250 + str(n) for n in range(3)]
    with (
        atomic_write(tmp_path / names[0]) as a,
        atomic_write(tmp_path / names[1]) as b,
        atomic_write(tmp_path / names[2]) as c,
    ):
        for path, text in ((a, "a"), (b, "b"), (c, "c")):
            path.write_text(text)
    assert [(tmp_path / name).read_text() for name in names] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "path", ["/proc/m.nii.gz", "/proc/a/b/m.nii.gz", "{}/" + "m" * 256, "{}/file/m.nii.gz", "{}/folder", "/dev/full/m"]
)
def test_a_path_that_cannot_be_written_is_an_input_error_that_names_it(tmp_path, path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    path = Path(path.format(tmp_path))
    with pytest.raises(InputError, match="^" + str(path)):
        check_writable(path)
    with pytest.raises(InputError, match="^" + str(path)), atomic_write(path) as temporary:
        temporary.write_text("whole")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder"]


def test_a_full_disk_is_an_input_error_and_another_missing_file_is_not(tmp_path):
    with pytest.raises(InputError, match=r"out: .*No space left"), atomic_write(tmp_path / "out") as temporary:  # noqa: PT012
        temporary.symlink_to("/dev/full")
        temporary.write_bytes(b"1")
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "out"):
        (tmp_path / "input").read_text()
    assert not list(tmp_path.iterdir())
