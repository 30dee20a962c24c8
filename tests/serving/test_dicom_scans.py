"""`lung-ct predict` on DICOM series, alone and beside NIfTI files, and on 8-bit scans."""

import shutil

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from tests.ingest.dicom_series import write_series
from tests.serving.test_scan_folders import predict, read_summary

ROWS, COLUMNS, SLICES = 24, 20, 5


@pytest.fixture
def series(tmp_path):
    """Air with a bright block near the patient's right, front and feet, with the attributes a segmentation needs."""
    hu = np.full((SLICES, ROWS, COLUMNS), -1100)
    hu[1:3, 2:8, 3:9] = 240
    study, frame = generate_uid(), generate_uid()

    def add_attributes(k, item):
        item.StudyInstanceUID, item.FrameOfReferenceUID = study, frame
        item.PatientBirthDate = item.PatientSex = item.StudyID = item.AccessionNumber = ""
        item.StudyDate, item.StudyTime, item.ReferringPhysicianName = "20260101", "120000", ""
        item.SeriesNumber, item.Manufacturer = 1, "ACME"

    return write_series(tmp_path / "scans" / "walk-in", hu, change=add_attributes)


def test_a_series_gets_a_mask_a_segmentation_and_a_preview(server, series, tmp_path, capsys):
    mask, seg, png = tmp_path / "mask.nii.gz", tmp_path / "seg.dcm", tmp_path / "p.png"
    assert predict(server, series, mask, "--dicom-seg", seg, "--preview", png) is None
    assert "in 2 of 5 slices" in capsys.readouterr().out
    written = pydicom.dcmread(seg)
    assert (written.Modality, written.NumberOfFrames, written.PatientID) == ("SEG", 2, "4711")
    predicted = nib.load(mask)
    assert int(np.asarray(predicted.dataobj).sum()) == int(written.pixel_array.sum()) > 0
    # The block's center in millimeters of DICOM's axes, whose x and y are opposite to NIfTI's.
    center = nib.affines.apply_affine(predicted.affine, np.argwhere(np.asarray(predicted.dataobj)).mean(axis=0))
    np.testing.assert_allclose(center * (-1, -1, 1), (-10 + 5.5 * 0.8, -20 + 4.5 * 0.75, 30 + 1.5 * 2.5), atol=0.4)
    assert png.read_bytes().startswith(b"\x89PNG")
    assert b"Meier" not in mask.read_bytes()


def test_a_series_on_a_cd_gets_the_same_mask(server, series, tmp_path):
    plain, nested = tmp_path / "plain.nii.gz", tmp_path / "nested.nii.gz"
    assert predict(server, series, plain) is None
    disc = tmp_path / "disc" / "DICOM" / "PA0" / "SE0"
    shutil.copytree(series, disc)
    (tmp_path / "disc" / "autorun.inf").write_bytes(b"MZ" * 100)
    for path in disc.iterdir():
        path.write_bytes(path.read_bytes()[132:])  # without preamble
    assert predict(server, tmp_path / "disc", nested) is None
    assert nested.read_bytes() == plain.read_bytes()
    assert predict(server, tmp_path / "disc", tmp_path / "masks") is None
    assert (tmp_path / "masks" / "DICOM_mask.nii.gz").read_bytes() == plain.read_bytes()
    message = predict(server, next(disc.iterdir()), tmp_path / "slice.nii.gz")
    assert "is a DICOM file: give the folder of its series" in message


def test_a_series_in_hu_plus_1024_is_refused(server, tmp_path):
    hu = np.full((SLICES, ROWS, COLUMNS), 24)
    hu[:, 4:20, 4:16] = 1064
    hu[:, :2] = -2000
    message = predict(server, write_series(tmp_path / "s", hu), tmp_path / "mask.nii.gz")
    assert message.startswith(f"error: {tmp_path / 's'}: 40 % of the voxels are above 500 HU")


def test_a_folder_may_hold_series_and_nifti_files(server, series, scan, tmp_path):
    shutil.copyfile(scan, series.parent / "outpatient.nii.gz")
    assert predict(server, series.parent, tmp_path / "masks") is None
    rows = read_summary(tmp_path / "masks")
    assert set(rows) == {"walk-in", "outpatient"}
    assert (rows["walk-in"]["slices_affected"], rows["walk-in"]["slices"]) == ("2", "5")


@pytest.mark.parametrize(
    ("name", "value"),
    [("PatientID", None), ("PatientBirthDate", "geb. 1960"), ("ImageOrientationPatient", [1, 0, 0, 0, 0, -1])],
)
def test_what_a_segmentation_needs_is_checked_before_anything_is_sent(server, series, tmp_path, capfd, name, value):
    for path in series.iterdir():
        image = pydicom.dcmread(path)
        with pydicom.config.disable_value_validation():
            image[name].value = value
            if value is None:
                del image[name]
            if name == "ImageOrientationPatient":  # coronal
                x, y, z = image.ImagePositionPatient
                image.ImagePositionPatient = [x, z * 0.8 / 2.5, y]  # slices as far apart as columns
            image.save_as(path)
    options = "--dicom-seg", tmp_path / "seg.dcm"
    message = predict("127.0.0.1:1", series, tmp_path / "mask.nii.gz", *options)
    assert message.startswith(f"error: {series}: a DICOM segmentation cannot refer to it")
    assert name in message or "axial" in message
    assert "1960" not in message + "".join(capfd.readouterr())
    assert [path.name for path in tmp_path.iterdir()] == ["scans"]
    # In a folder, the scan gets its mask, and the table has the reason.
    message = predict(server, series.parent, tmp_path / "masks", "--dicom-seg")
    assert message.startswith("error: 1 of 1 scans failed: walk-in")
    assert {path.name for path in (tmp_path / "masks").iterdir()} == {"walk-in_mask.nii.gz", "summary.csv"}
    row = read_summary(tmp_path / "masks")["walk-in"]
    assert "cannot refer" in row["error"]
    assert row["slices"]


def test_an_eight_bit_scan_is_converted_to_hu_and_an_unknown_range_is_an_error(server, scan, tmp_path, capsys):
    source = nib.load(scan)
    hu = np.asarray(source.dataobj)
    windowed = np.clip(np.rint((hu + 1250.0) * 255 / 1500), 0, 255).astype(np.uint8)
    nib.save(nib.Nifti1Image(windowed, source.affine), tmp_path / "windowed.nii.gz")
    for name in ("scan", "windowed"):
        out = tmp_path / f"{name}_mask.nii.gz", "--probability", tmp_path / f"{name}_p.nii.gz"
        assert predict(server, tmp_path / f"{name}.nii.gz", *out) is None
    assert "the scan is 8-bit" in capsys.readouterr().out
    probabilities = [nib.load(tmp_path / f"{name}_p.nii.gz").get_fdata() for name in ("scan", "windowed")]
    np.testing.assert_allclose(*probabilities, atol=0.01)  # a gray level is 6 HU
    # Neither HU nor 0 to 255.
    nib.save(nib.Nifti1Image(windowed.astype(np.int16) // 4 + 400, source.affine), tmp_path / "unknown.nii.gz")
    message = predict(server, tmp_path / "unknown.nii.gz", tmp_path / "u.nii.gz")
    assert "unknown.nii.gz" in message
    assert not (tmp_path / "u.nii.gz").exists()
