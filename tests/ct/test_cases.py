"""The case table, and files that are whole or absent."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.ct.cases import TABLE, Case, read_cases, write_cases
from components.runtime.errors import CohortError, InputError, VolumeError, exit_on_input_error, join_problems
from components.runtime.files import atomic_write, sha256_of

IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=20)


def case(case_id="a", **other) -> Case:
    fields = {
        "patient_id": case_id,
        "site": "s",
        "scan": f"scans/{case_id}.nii.gz",
        "mask": f"masks/{case_id}.nii.gz",
    }
    return Case(case_id, **(fields | {"intensity": "hu", "sha256_scan": "0", "sha256_mask": "1"} | other))


@given(table=st.lists(st.builds(case, IDS, patient_id=TEXT, site=TEXT), unique_by=lambda row: row.case_id))
def test_a_table_comes_back_as_it_was_written_ordered_by_case(tmp_path_factory, table):
    folder = tmp_path_factory.mktemp("table")
    write_cases(folder, table)
    assert read_cases(folder) == sorted(table, key=lambda row: row.case_id)


def test_the_order_of_the_cases_changes_no_byte(tmp_path):
    write_cases(tmp_path / "1", [case("a"), case("b")])
    write_cases(tmp_path / "2", [case("b"), case("a")])
    assert (tmp_path / "1" / TABLE).read_bytes() == (tmp_path / "2" / TABLE).read_bytes()


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ([case("a"), case("a")], "case a stands in it twice"),
        ([case("a", scan="../a.nii.gz")], "case a points outside the artifact"),
        ([case("a", mask="/etc/passwd")], "case a points outside the artifact"),
        ([case("../a")], r"case id '../a'; expected letters"),
        ([case("")], "case id ''"),
    ],
)
def test_a_table_that_cannot_be_trusted_is_refused(tmp_path, table, says):
    write_cases(tmp_path, table)
    with pytest.raises(CohortError, match=says):
        read_cases(tmp_path)


@pytest.mark.parametrize(("edit", "says"), [("case_id,patient", "has columns"), ("a,b", "has columns")])
def test_other_columns_are_refused(tmp_path, edit, says):
    (tmp_path / TABLE).write_text(edit + "\n")
    with pytest.raises(CohortError, match=says):
        read_cases(tmp_path)


@pytest.mark.parametrize("row", ["a,b,c", "a,b,c,d,e,f,g,h,i"])
def test_an_incomplete_row_is_named_by_its_line(tmp_path, row):
    write_cases(tmp_path, [case("a")])
    with (tmp_path / TABLE).open("a") as file:
        file.write(row + "\n")
    with pytest.raises(CohortError, match="line 3 has too few or too many columns"):
        read_cases(tmp_path)


def test_a_folder_without_a_table_is_refused(tmp_path):
    with pytest.raises(CohortError, match="no case table; give the output of the ingest step"):
        read_cases(tmp_path)


def test_a_file_that_changed_since_it_was_recorded_is_refused(tmp_path):
    (tmp_path / "scans").mkdir()
    file = tmp_path / "scans" / "a.nii.gz"
    file.write_bytes(b"one")
    row = case("a", sha256_scan=sha256_of(file), mask="")
    assert row.verified_scan(tmp_path) == file
    file.write_bytes(b"two")
    with pytest.raises(VolumeError, match=r"case a: .* has sha256 .*the case table says .*; run ingest again"):
        row.verified_scan(tmp_path)
    with pytest.raises(VolumeError, match="case a: has no mask"):
        row.verified_mask(tmp_path)
    file.unlink()
    with pytest.raises(VolumeError, match="is missing; run ingest again"):
        row.verified_scan(tmp_path)


def fill_half_and_fail(target):
    with atomic_write(target) as temporary:
        temporary.mkdir()
        (temporary / "half").touch()
        raise RuntimeError


def test_a_writer_that_fails_leaves_what_was_there_before(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept").touch()
    with pytest.raises(RuntimeError):
        fill_half_and_fail(tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "kept"]


def test_a_folder_replaces_the_one_of_an_earlier_run(tmp_path):
    for name in ("first", "second"):
        with atomic_write(tmp_path / "out") as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "second"]


def test_what_a_killed_process_of_the_same_number_left_is_swept_away(tmp_path):
    left_behind = tmp_path / f".out.{os.getpid()}.partial"
    left_behind.mkdir()
    (left_behind / "half").touch()
    with atomic_write(tmp_path / "out") as temporary:
        temporary.mkdir()
        (temporary / "whole").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "whole"]


def test_many_problems_are_one_line_with_the_first_few_and_a_count():
    assert join_problems(["a"]) == "a"
    assert join_problems(["a", "b"]) == "2 problems: a; b"
    assert join_problems(list("abcdefg"), shown=3) == "7 problems: a; b; c; and 4 more"


@pytest.mark.parametrize("error", [InputError("a\nb"), OSError(errno.ENOSPC, "No space left on device", "/x")])
def test_a_users_mistake_and_a_full_disk_end_in_one_line_and_status_1(error):
    with pytest.raises(SystemExit) as ended, exit_on_input_error():
        raise error
    message = ended.value.code
    assert isinstance(message, str)
    assert message.startswith("error: ")
    assert "\n" not in message


def test_a_fault_of_our_own_keeps_its_traceback():
    with pytest.raises(FileNotFoundError), exit_on_input_error():
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")
