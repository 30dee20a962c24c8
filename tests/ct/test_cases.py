"""The case table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.ct.cases import CASES_FILE, Case, read_cases, write_cases
from components.runtime.errors import CohortError, VolumeError
from components.runtime.files import sha256_of

IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
PATIENTS = st.from_regex(r"[a-zé0-9]{1,9}", fullmatch=True)
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=20)


def case(case_id="a", **other) -> Case:
    fields = {"patient_id": case_id, "site": "s", "scan": f"scans/{case_id}.nii.gz", "mask": f"masks/{case_id}.nii.gz"}
    return Case(case_id, **(fields | {"intensity": "hu", "sha256_scan": "0", "sha256_mask": "1"} | other))


@given(table=st.lists(st.builds(case, IDS, patient_id=PATIENTS, site=TEXT), unique_by=lambda row: row.case_id))
def test_a_table_is_read_as_written_sorted_by_case_id(tmp_path_factory, table):
    folder = tmp_path_factory.mktemp("table")
    write_cases(folder, table)
    assert read_cases(folder) == sorted(table, key=lambda row: row.case_id)


def test_the_order_of_the_cases_does_not_change_the_bytes(tmp_path):
    write_cases(tmp_path / "1", [case("a"), case("b")])
    write_cases(tmp_path / "2", [case("b"), case("a")])
    assert (tmp_path / "1" / CASES_FILE).read_bytes() == (tmp_path / "2" / CASES_FILE).read_bytes()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([case("a"), case("a")], "duplicate case id a"),
        ([case("a", scan="../a.nii.gz")], r"case a: \.\./a\.nii\.gz is outside"),
        ([case("a", mask="/etc/passwd")], "case a: /etc/passwd is outside"),
        ([case("../a")], r"case id '../a'; expected letters"),
        ([case("")], "case id ''"),
    ],
)
def test_an_unsafe_table_is_refused(tmp_path, table, message):
    write_cases(tmp_path, table)
    with pytest.raises(CohortError, match=message):
        read_cases(tmp_path)


@pytest.mark.parametrize("header", ["case_id,patient", "a,b"])
def test_other_columns_are_refused(tmp_path, header):
    (tmp_path / CASES_FILE).write_text(header + "\n")
    with pytest.raises(CohortError, match="columns"):
        read_cases(tmp_path)


@pytest.mark.parametrize("row", ["a,b,c", "a,b,c,d,e,f,g,h,i"])
def test_an_incomplete_row_is_named_by_its_line(tmp_path, row):
    write_cases(tmp_path, [case("a")])
    with (tmp_path / CASES_FILE).open("a") as file:
        file.write(row + "\n")
    with pytest.raises(CohortError, match="line 3"):
        read_cases(tmp_path)


def test_a_folder_without_a_table_is_refused(tmp_path):
    with pytest.raises(CohortError, match=r"cases\.csv: .* ingest"):
        read_cases(tmp_path)


def test_a_file_that_differs_from_its_digest_is_refused(tmp_path):
    (tmp_path / "scans").mkdir()
    file = tmp_path / "scans" / "a.nii.gz"
    file.write_bytes(b"one")
    row = case("a", sha256_scan=sha256_of(file), mask="")
    assert row.verified_scan(tmp_path) == file
    file.write_bytes(b"two")
    with pytest.raises(VolumeError, match=r"case a: .*a\.nii\.gz has sha256 .*ingest"):
        row.verified_scan(tmp_path)
    with pytest.raises(VolumeError, match=r"case a: .*no mask"):
        row.verified_mask(tmp_path)
    file.unlink()
    with pytest.raises(VolumeError, match=r"case a: .*a\.nii\.gz is missing"):
        row.verified_scan(tmp_path)
