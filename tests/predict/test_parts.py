"""The scans of a batch: from a folder or bucket of scans, or from a cohort as for training."""

import shutil

import numpy as np
import pytest

from components.plan_parts.plan import divide_scans
from components.predict.batch import ModelEndpoint, predict_part
from components.runtime.errors import InputError
from components.storage.gcs import upload_folder
from tests.ingest.dicom_series import write_series
from tests.serving.conftest import model_folder, scan  # noqa: F401 (fixtures)
from tests.serving.toy import MODEL
from tests.storage.gcs_server import BUCKET, gcs, gcs_server  # noqa: F401 (fixtures)

URI = f"gs://{BUCKET}/cohort"


@pytest.fixture
def cohort(scan, tmp_path):  # noqa: F811
    """A cohort as training takes it: two scans, one damaged, with masks and other files."""
    folder = tmp_path / "cohort"
    for name in ("scans", "infection_masks"):
        (folder / name).mkdir(parents=True)
        shutil.copyfile(scan, folder / name / "a.nii.gz")
    (folder / "scans" / "b.nii.gz").write_bytes(scan.read_bytes()[:-9])
    (folder / "patients.csv").touch()
    return folder


@pytest.mark.parametrize("name", ["scans", "ct_scans", "Scans", "COVID-19-CT-Seg_20cases"])
@pytest.mark.parametrize("place", ["folder", "bucket"])
def test_the_folder_of_scans_in_a_cohort_is_taken_as_for_training(cohort, gcs, name, place):  # noqa: F811
    (cohort / "scans").rename(cohort / name)
    upload_folder(cohort, URI)
    source = str(cohort) if place == "folder" else URI
    assert divide_scans(source, 1) == [[f"{name}/a.nii.gz", f"{name}/b.nii.gz"]]


def test_a_folder_with_scans_of_its_own_is_taken_itself(cohort, gcs, scan):  # noqa: F811
    shutil.copyfile(scan, cohort / "c.nii.gz")
    (cohort / "scans" / "b.nii.gz").rename(cohort / "infection_masks" / "b.nii.gz")
    upload_folder(cohort, URI)
    assert divide_scans(URI, 1) == [["c.nii.gz"]]
    write_series(cohort / "scans" / "d", np.zeros((2, 2, 2)))
    shutil.rmtree(cohort / "infection_masks")
    assert "c.nii.gz" in divide_scans(str(cohort), 1)[0]


def test_dicom_series_in_a_cohort_are_scans(cohort):
    write_series(cohort / "scans" / "d" / "DICOM" / "SE0", np.zeros((2, 2, 2)))
    assert divide_scans(f"{cohort}/", 1) == [["scans/a.nii.gz", "scans/b.nii.gz", "scans/d"]]


@pytest.mark.parametrize("place", ["folder", "bucket"])
def test_two_scans_of_one_name_and_two_folders_of_scans_are_refused(cohort, gcs, scan, place):  # noqa: F811
    shutil.copyfile(scan, cohort / "scans" / "a.nii")
    upload_folder(cohort, URI)
    source = str(cohort) if place == "folder" else URI
    with pytest.raises(InputError, match=rf"{source}: scans/a\.nii and scans/a\.nii\.gz have one name"):
        divide_scans(source, 2)
    (cohort / "ct_scans").mkdir()
    (cohort / "ct_scans" / "c.nii").touch()
    upload_folder(cohort, URI)
    with pytest.raises(InputError, match=rf"{source}: ct_scans and scans both match"):
        divide_scans(source, 2)


@pytest.mark.parametrize("place", ["folder", "bucket"])
def test_a_cohort_is_segmented_and_an_error_names_the_source(cohort, gcs, model_folder, tmp_path, place):  # noqa: F811
    upload_folder(cohort, URI)
    source = str(cohort) if place == "folder" else URI
    (names,) = divide_scans(source, 1)
    good, bad = predict_part(source, names, ModelEndpoint(MODEL, model=str(model_folder)), tmp_path / "out", 0.0)
    assert (good.case, good.error) == ("a", "")
    assert (tmp_path / "out" / "a_mask.nii.gz").is_file()
    assert bad.error.startswith(f"{source}/scans/b.nii.gz: ")
