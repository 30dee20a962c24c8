"""Ingest from local folders and phantoms."""

import nibabel as nib
import numpy as np
import pytest

from components.ct.cases import read_cases, read_skipped
from components.ct.dicom import read_dicom_series
from components.ct.volume import read_volume
from components.ingest.ingest import ingest
from components.runtime.errors import CohortError, InputError
from components.runtime.files import sha256_of
from tests.ingest.conftest import SHAPE, mask_of, read_files
from tests.ingest.dicom_series import write_series


def test_copies_keep_voxels_and_affine_and_the_table_records_their_digests(cohort, tmp_path):
    cases = ingest(str(cohort), tmp_path / "out")
    assert read_cases(tmp_path / "out") == cases
    assert [case.case_id for case in cases] == ["case_0", "case_1", "case_2", "case_3"]
    for case in cases:
        source = nib.load(cohort / case.scan)
        copy = nib.load(tmp_path / "out" / case.scan)
        np.testing.assert_array_equal(np.asanyarray(copy.dataobj), np.asanyarray(source.dataobj))
        np.testing.assert_array_equal(copy.affine, source.affine)
        assert sha256_of(tmp_path / "out" / case.scan) == case.sha256_scan
        assert sha256_of(tmp_path / "out" / case.mask) == case.sha256_mask
        assert (case.site, case.intensity, case.patient_id) == ("hospital", "hu", case.case_id)


def test_a_second_run_gives_the_same_bytes(cohort, tmp_path):
    ingest(str(cohort), tmp_path / "out", workers=1)
    first = read_files(tmp_path / "out")
    ingest(str(cohort), tmp_path / "out", workers=4)
    assert read_files(tmp_path / "out") == first
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_kaggle_layout_gives_sites_and_patients(tmp_path, save):
    folder = tmp_path / "archive"
    for scan, mask in {
        "coronacases_org_001.nii": "coronacases_001.nii",
        "radiopaedia_org_covid-19-pneumonia-10_85902_1-dcm.nii": "radiopaedia_10_85902_1.nii",
        "radiopaedia_org_covid-19-pneumonia-10_85902_3-dcm.nii": "radiopaedia_10_85902_3.nii",
    }.items():
        save(folder / "ct_scans" / scan)
        save(folder / "infection_mask" / mask, mask_of(1))
        save(folder / "lung_mask" / mask, mask_of(1, 2))
    cases = ingest(str(folder), tmp_path / "out")
    assert [(case.case_id, case.site) for case in cases] == [
        ("coronacases_001", "coronacases"),
        ("radiopaedia_10_85902_1", "radiopaedia"),
        ("radiopaedia_10_85902_3", "radiopaedia"),
    ]
    assert cases[1].patient_id == cases[2].patient_id


@pytest.mark.parametrize(
    ("voxels", "label", "expected"),
    [
        (mask_of(1, 1), 0, mask_of(1, 1)),
        (mask_of(255, 255), 0, mask_of(1, 1)),
        (mask_of(1, 1, dtype="float64"), 0, mask_of(1, 1)),
        (mask_of(1, 2, 3, 3), 3, mask_of(0, 0, 1, 1)),
        # ambiguous: copied unchanged
        (mask_of(1, 2, 3), 0, mask_of(1, 2, 3)),
        (mask_of(0.5, 1, dtype="float32"), 1, mask_of(0.5, 1, dtype="float32")),
    ],
)
def test_a_mask_becomes_0_and_1_if_its_values_define_the_lesion(tmp_path, save, voxels, label, expected):
    save(tmp_path / "in" / "scans" / "a.nii")
    save(tmp_path / "in" / "infection_masks" / "a.nii", voxels)
    (case,) = ingest(str(tmp_path / "in"), tmp_path / "out", label=label)
    mask = nib.load(tmp_path / "out" / case.mask)
    assert mask.get_data_dtype() == expected.dtype
    np.testing.assert_array_equal(np.asanyarray(mask.dataobj), expected)


def test_an_unknown_intensity_range_is_recorded(tmp_path, save):
    save(tmp_path / "in" / "scans" / "a.nii", np.zeros(SHAPE, np.uint8))
    save(tmp_path / "in" / "infection_masks" / "a.nii", mask_of(1))
    assert ingest(str(tmp_path / "in"), tmp_path / "out")[0].intensity == "unknown"


def test_one_error_lists_every_problem_and_no_output_remains(cohort, tmp_path):
    (cohort / "scans" / "case_0.nii.gz").write_bytes(b"<html>")
    damaged = cohort / "infection_masks" / "case_1.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    (cohort / "scans" / "case_2.nii.gz").unlink()
    with pytest.raises(CohortError) as raised:
        ingest(str(cohort), tmp_path / "out")
    message = str(raised.value)
    assert "3 problems: " in message
    assert "mask case_2.nii.gz has no scan" in message
    assert "case case_0: " in message
    assert "starts with an HTML page" in message
    assert "case case_1: " in message
    assert [path.name for path in tmp_path.iterdir()] == ["hospital"]


def test_a_cohort_without_a_pair_is_refused(tmp_path, save):
    save(tmp_path / "in" / "scans" / "a.nii")
    save(tmp_path / "in" / "infection_masks" / "b.nii")
    with pytest.raises(CohortError, match=r"2 problems: scan a\.nii .*mask"):
        ingest(str(tmp_path / "in"), tmp_path / "out")


@pytest.mark.parametrize("source", ["phantom:", "phantom:0", "phantom:x", "phantom:-3", "phantom", "", "phantom:1.5"])
def test_an_invalid_source_is_refused(tmp_path, source):
    with pytest.raises(InputError, match="phantom:12"):
        ingest(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"label": -1}, r"label.*-1\b"),
        ({"label": 256}, r"label.*\b256\b"),
        ({"on_invalid": "ignore"}, "on_invalid.*'ignore'.*fail.*skip"),
        ({"push_to": "/folder"}, "push_to.*'/folder'.*gs://"),
    ],
)
def test_an_invalid_parameter_is_refused(cohort, tmp_path, parameters, message):
    with pytest.raises(InputError, match=message):
        ingest(str(cohort), tmp_path / "out", **parameters)


def test_a_phantom_cohort_has_two_scans_of_one_patient_and_both_intensities(tmp_path):
    cases = ingest("phantom:4", tmp_path / "out", seed=1)
    assert len(cases) == 4
    assert len({case.patient_id for case in cases}) == 3
    assert {case.site for case in cases} == {"phantom"}
    assert {case.intensity for case in cases} == {"hu", "windowed"}
    for case in cases:
        scan = read_volume(case.verified_scan(tmp_path / "out"))
        mask = read_volume(case.verified_mask(tmp_path / "out"))
        assert scan.file_grid.shape == mask.file_grid.shape


def test_a_dicom_series_becomes_a_nifti_scan(tmp_path, save):
    hu = np.random.default_rng(0).integers(-1000, 1000, (4, 5, 6))  # slices, rows, columns
    series = write_series(tmp_path / "in" / "scans" / "case_7", hu)
    volume = read_dicom_series(series)
    mask = np.zeros(volume.file_grid.shape, np.uint8)
    mask[1, 2, 3] = 1
    save(tmp_path / "in" / "infection_masks" / "case_7.nii.gz", mask, volume.file_grid.affine)
    (case,) = ingest(str(tmp_path / "in"), tmp_path / "out")
    assert (case.case_id, case.intensity) == ("case_7", "hu")
    copied = read_volume(case.verified_scan(tmp_path / "out"))
    np.testing.assert_array_equal(copied.voxels, volume.voxels)
    np.testing.assert_allclose(copied.file_grid.affine, volume.file_grid.affine, atol=1e-5)


def test_nested_dicom_and_dicom_without_preamble_are_scans(tmp_path, save):
    hu = np.random.default_rng(0).integers(-1000, 1000, (4, 5, 6))
    for name, folder in (("cd", "cd/DICOM/PA0/SE0"), ("bare", "bare")):
        series = write_series(tmp_path / "in" / "scans" / folder, hu)
        volume = read_dicom_series(series)
        save(tmp_path / "in" / "infection_masks" / f"{name}.nii", np.ones(volume.file_grid.shape, np.uint8))
        for file in series.iterdir() if name == "bare" else ():
            file.write_bytes(file.read_bytes()[132:])  # preamble and magic bytes
    (tmp_path / "in" / "scans" / "cd" / "DICOMDIR").touch()
    cases = ingest(str(tmp_path / "in"), tmp_path / "out")
    assert [case.case_id for case in cases] == ["bare", "cd"]
    for case in cases:
        np.testing.assert_array_equal(read_volume(tmp_path / "out" / case.scan).voxels, volume.voxels)


UNREADABLE = ("d.hdr", "d.img", "e.mha", "f.nrrd", "g.dcm", "h.zip", "notes.txt")


def test_every_file_of_the_source_that_is_not_used_is_named(cohort, tmp_path, caplog):
    for name in [*(f"scans/{name}" for name in UNREADABLE), "lung_masks/a.nii", "lung_masks/b.nii", "case_9.nii.gz"]:
        (cohort / name).parent.mkdir(exist_ok=True)
        (cohort / name).touch()
    (cohort / "patients.csv").write_text("case_id,patient_id\ncase_0,p\n")
    (cohort / "scans").rename(tmp_path / "elsewhere")
    (cohort / "scans").symlink_to(tmp_path / "elsewhere")
    (cohort / "scans" / "z1").mkdir()
    (cohort / "scans" / "z2").symlink_to(tmp_path)
    (cohort / "scans" / "z3.nii").symlink_to(tmp_path / "missing")
    ingest(str(cohort), tmp_path / "out")
    listed = "case_9.nii.gz, lung_masks/ (2 files), " + ", ".join(f"scans/{name}" for name in UNREADABLE)
    listed += ", scans/z1, scans/z2, scans/z3.nii"
    (line,) = read_skipped(tmp_path / "out")
    assert line.startswith(f"not used: {listed} (")
    assert "folder of DICOM files" in line
    assert line in caplog.messages
    caplog.clear()
    ingest(str(tmp_path / "out"), tmp_path / "again", masks="masks")  # an output is a source without other files
    assert "not used" not in caplog.text


@pytest.mark.parametrize("name", ["scans/v.dcm", "scans/v.zip", "scans/v.mha"])
def test_an_error_mentions_the_files_that_are_not_used(cohort, tmp_path, save, name):
    save(cohort / "infection_masks" / "v.nii.gz", mask_of(1))
    (cohort / name).touch()
    with pytest.raises(CohortError, match=rf"mask v\.nii\.gz has no scan.*; not used: {name} .*folder of DICOM"):
        ingest(str(cohort), tmp_path / "out")


def test_skip_leaves_out_and_lists_invalid_cases(cohort, tmp_path, caplog):
    (cohort / "scans" / "case_0.nii.gz").write_bytes(b"<html>")
    (cohort / "infection_masks" / "case_1.nii.gz").write_bytes(b"")
    (cohort / "scans" / "case_2.nii.gz").unlink()
    cases = ingest(str(cohort), tmp_path / "out", on_invalid="skip")
    assert [case.case_id for case in cases] == ["case_3"]
    listed = (tmp_path / "out" / "skipped.txt").read_text().splitlines()
    assert len(listed) == 3
    assert [line for line in caplog.messages if line.startswith("skipped")] == [f"skipped: {line}" for line in listed]
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.nii.gz")) == ["case_3.nii.gz"] * 2


def test_skip_fails_without_a_valid_case(cohort, tmp_path):
    for file in (cohort / "scans").iterdir():
        file.write_bytes(b"<html>")
    with pytest.raises(CohortError, match="4 problems: "):
        ingest(str(cohort), tmp_path / "out", on_invalid="skip")


def test_patients_csv_may_list_skipped_cases(cohort, tmp_path):
    (cohort / "patients.csv").write_text("case_id,patient_id\ncase_0,p\ncase_1,p\n")
    (cohort / "scans" / "case_0.nii.gz").unlink()
    assert ingest(str(cohort), tmp_path / "out", on_invalid="skip")[0].patient_id == "p"
