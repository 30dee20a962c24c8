"""DICOM segmentations, read back with pydicom."""

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from components.runtime.errors import InputError
from serving.client.dicom_seg import write_segmentation

ROWS, COLUMNS, SLICES = 6, 8, 5


@pytest.fixture
def series(tmp_path):
    """An axial series with file names in order from head to feet."""
    folder = tmp_path / "series"
    folder.mkdir()
    study, frame, uid = generate_uid(), generate_uid(), generate_uid()
    for index in range(SLICES):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, uid, frame
        image.PatientID, image.PatientName, image.PatientBirthDate, image.PatientSex = "7", "", "", ""
        image.StudyID, image.AccessionNumber, image.StudyDate, image.StudyTime = "1", "", "20260101", "120000"
        image.ReferringPhysicianName, image.Modality, image.Manufacturer = "", "CT", "ACME"
        image.SeriesNumber, image.InstanceNumber = 1, SLICES - index
        image.Rows, image.Columns, image.PixelSpacing, image.SliceThickness = ROWS, COLUMNS, [0.7, 0.8], 2.5
        image.ImageOrientationPatient, image.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-3, -2, -10.0 - 2.5 * index]
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
        image.PixelData = bytes(2 * ROWS * COLUMNS)
        image.save_as(folder / f"{index}.dcm", enforce_file_format=True)
    (folder / "notes.txt").write_text("no image")
    return folder


def test_each_frame_has_the_position_of_its_image(series, tmp_path):
    mask = np.zeros((COLUMNS, ROWS, SLICES), np.uint8)
    # The patient's rightmost, foremost and lowest voxel is in the first column and row of a DICOM image.
    mask[COLUMNS - 1, ROWS - 1, 0] = mask[COLUMNS - 2, 0, 3] = 1
    mask[0, :, 3] = 1
    write_segmentation(tmp_path / "seg.dcm", series, mask)
    written = pydicom.dcmread(tmp_path / "seg.dcm")
    assert (written.Modality, written.NumberOfFrames) == ("SEG", 2)
    assert written.SegmentSequence[0].SegmentLabel == "Lung lesion"
    frames = {}
    for group, pixels in zip(written.PerFrameFunctionalGroupsSequence, written.pixel_array, strict=True):
        frames[float(group.PlanePositionSequence[0].ImagePositionPatient[2])] = pixels
    assert sorted(frames) == [-20.0, -12.5]  # the lowest slice, and the fourth from below
    assert np.argwhere(frames[-20.0]).tolist() == [[0, 0]]
    assert frames[-12.5][:, COLUMNS - 1].all()
    assert frames[-12.5].sum() == ROWS + 1


def test_a_mask_of_another_size_is_an_error(series, tmp_path):
    with pytest.raises(InputError, match=r"series.*\b5 images"):
        write_segmentation(tmp_path / "seg.dcm", series, np.zeros((COLUMNS, ROWS, 4), np.uint8))
    assert not (tmp_path / "seg.dcm").exists()


def test_a_tilted_series_is_an_error(series, tmp_path):
    image = pydicom.dcmread(series / "0.dcm")
    image.ImageOrientationPatient = [1, 0, 0, 0, 0.9, 0.436]
    image.save_as(series / "0.dcm")
    with pytest.raises(InputError, match=r"series: .*axial"):
        write_segmentation(tmp_path / "seg.dcm", series, np.zeros((COLUMNS, ROWS, SLICES), np.uint8))
