"""Atomic writes."""

import os

import pytest

from components.runtime.files import atomic_write


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
    (tmp_path / f".out.{os.getpid()}.partial").mkdir()
    (tmp_path / f".out.{os.getpid()}.partial" / "half").touch()
    write_folder(tmp_path / "out", "whole")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "whole"]
