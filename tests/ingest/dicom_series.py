"""Write synthetic slices as the DICOM files of a scanner."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

AXIAL = (1.0, 0, 0, 0, 1, 0)  # columns towards the patient's left, rows towards the back


def write_series(
    folder: Path,
    hu: np.ndarray,
    *,
    positions_mm: Sequence[Sequence[float]] | None = None,
    orientation: Sequence[float] = AXIAL,
    pixel_spacing_mm: tuple[float, float] = (0.75, 0.8),
    step_mm: float = 2.5,
    slope: float = 1,
    intercept: float = -1024,
    change: Callable[[int, pydicom.Dataset], None] = lambda k, item: None,
) -> Path:
    """Write (slices, rows, columns) HU as one file per slice; the order of the names is not that of the slices.

    Args:
        change: called with the index and the data set of each slice before it is written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series = generate_uid()
    across, down = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.cross(across, down)
    for k, slice_hu in enumerate(hu):
        item = pydicom.Dataset()
        item.file_meta = FileMetaDataset()
        item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        item.file_meta.MediaStorageSOPClassUID = item.SOPClassUID = CTImageStorage
        item.file_meta.MediaStorageSOPInstanceUID = item.SOPInstanceUID = generate_uid()
        item.SeriesInstanceUID, item.Modality, item.InstanceNumber = series, "CT", k + 1
        item.PatientName, item.PatientID = "Meier^Hans", "4711"
        item.Rows, item.Columns = slice_hu.shape
        item.PixelSpacing = list(pixel_spacing_mm)
        item.ImageOrientationPatient = [float(n) for n in orientation]
        position = np.array([-10, -20, 30]) + normal * step_mm * k if positions_mm is None else positions_mm[k]
        item.ImagePositionPatient = [round(float(n), 6) for n in position]
        item.SliceThickness = step_mm
        item.RescaleSlope, item.RescaleIntercept, item.RescaleType = slope, intercept, "HU"
        item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
        item.BitsAllocated, item.BitsStored, item.HighBit, item.PixelRepresentation = 16, 16, 15, 1
        item.PixelData = np.rint((slice_hu - intercept) / slope).astype("<i2").tobytes()
        change(k, item)
        item.save_as(folder / f"{(k * 7) % len(hu):03d}_{k}", enforce_file_format=True)
    return folder
