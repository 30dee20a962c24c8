"""Scans in a folder: NIfTI files and DICOM series."""

from pathlib import Path

import numpy as np
import pytest

from components.ct.scan_folder import find_nifti_files, find_scans, is_dicom_series, scan_name
from components.runtime.errors import CohortError
from tests.ingest.dicom_series import write_series


@pytest.fixture
def folder(tmp_path):
    names = ("a.nii", "deep/b.NII.GZ", ".hidden.nii", "__MACOSX/c.nii", "deep/._b.nii.gz", "notes.txt")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    write_series(tmp_path / "series", np.zeros((2, 2, 2)))
    write_series(tmp_path / "cd" / "DICOM" / "SE0", np.zeros((2, 2, 2)))
    return tmp_path


def test_subfolders_are_searched_on_request_and_hidden_files_never(folder):
    assert [path.name for path in find_scans(folder)] == ["a.nii", "cd", "series"]
    assert [path.name for path in find_scans(folder, recursive=True)] == ["a.nii", "cd", "b.NII.GZ", "series"]
    assert [path.name for path in find_nifti_files(folder, recursive=True)] == ["a.nii", "b.NII.GZ"]


def test_a_series_is_a_folder_that_holds_a_dicom_file_directly(folder):
    (folder / "deep" / "DICOMDIR").write_bytes(next((folder / "series").iterdir()).read_bytes())
    assert is_dicom_series(folder / "series")
    assert not any(is_dicom_series(folder / name) for name in ("deep", ".", "nothing", "a.nii", "cd"))


@pytest.mark.parametrize("find", [find_scans, find_nifti_files])
def test_the_error_of_a_folder_without_scans_contains_suffixes_but_no_file_names(tmp_path, find):
    with pytest.raises(CohortError, match=rf"{tmp_path}.*empty"):
        find(tmp_path)
    (tmp_path / "Meier.png").touch()
    with pytest.raises(CohortError, match=r"one other file: \.png\)") as error:
        find(tmp_path)
    assert "Meier" not in str(error.value)
    for name in ("Meier.tar.gz", "M.Meier", "7.Meier.gz", "Meier"):
        (tmp_path / name).touch()
    with pytest.raises(CohortError, match=r"5 other files: \.gz, \.png, other suffixes\)"):
        find(tmp_path)
    (tmp_path / "Meier.zip").touch()
    with pytest.raises(CohortError, match="unpack archives"):
        find(tmp_path)
    write_series(tmp_path, np.zeros((1, 2, 2)))
    with pytest.raises(CohortError, match="loose DICOM files: move each series into a folder of its own"):
        find(tmp_path)


@pytest.mark.parametrize(("name", "scan"), [("a.b.nii.gz", "a.b"), ("A.NII", "A"), ("series.1", "series.1")])
def test_a_scan_is_named_without_its_suffix(name, scan):
    assert scan_name(Path(name)) == scan
