"""Write a predicted mask as a DICOM segmentation, which viewers overlay on the series it refers to."""

import io
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import generate_uid
from pydicom.valuerep import DA, TM

from components.ct.dicom import read_dicom_file
from components.ct.grid import axial_slices
from components.ct.scan_folder import is_dicom_file, series_files
from components.runtime.errors import InputError
from components.runtime.files import atomic_write

_PRODUCT = "lung-ct-pipelines"
_AXIAL = (1, 0, 0, 0, 1, 0)  # rows run to the patient's left, columns to the back
# Attributes that highdicom copies from the images or reads (highdicom/seg/sop.py); they must exist, and may be empty.
_COPIED = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate"),
    *("StudyTime", "StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID", "FrameOfReferenceUID"),
    *("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "SliceThickness"),
)


def _parses(kind: type, text: str) -> bool:
    try:
        return bool(kind(text)) or not text
    except ValueError:
        return False


_VALID: dict[str, Callable[[str], bool]] = {
    **{name: partial(_parses, DA) for name in ("PatientBirthDate", "StudyDate")},
    "StudyTime": partial(_parses, TM),
    "PatientSex": ("", "F", "M", "O").__contains__,
}


class SegmentationError(InputError):
    """A DICOM segmentation cannot refer to a series."""


def check_series(series: Path, shape: tuple[int, ...]) -> None:
    """Check that a mask of a shape (x, y, z) can be written as a segmentation of a series; raises as that."""
    mask = np.zeros(shape, np.uint8)
    mask[(0,) * mask.ndim] = 1
    _encode(series, mask)


def write_segmentation(path: Path, series: Path, mask: NDArray[np.uint8]) -> None:
    """Write an (x, y, z) RAS+ mask of 0 and 1 as DICOM SEG; it has a slice for each image of the axial series.

    Raises:
        SegmentationError: highdicom is not installed, or the series is not axial, does not fit the mask, or lacks
            attributes that a segmentation refers to.
        InputError: the file cannot be written.
    """
    content = _encode(series, mask)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def _encode(series: Path, mask: NDArray[np.uint8]) -> bytes:
    try:
        import highdicom as hd
    except ModuleNotFoundError as error:
        raise SegmentationError("DICOM segmentations need highdicom; install the extra `seg`") from error
    # Validation warnings quote values, which may identify the patient.
    with pydicom.config.disable_value_validation():
        images = _read_images(series)
        frames = axial_slices(mask)
        if frames.shape != (len(images), images[0].Rows, images[0].Columns):
            raise _error(series, f"it has {len(images)} images; the mask has {len(frames)} slices or another grid")
        try:
            content = io.BytesIO()
            _build(hd, images, frames).save_as(content)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, struct.error) as error:
            attribute = getattr(error, "name", None) or type(error).__name__
            raise _error(series, f"its attributes are unsuitable ({attribute})") from None
    return content.getvalue()


def _build(hd: Any, images: list[Any], frames: NDArray[np.uint8]) -> Any:
    from pydicom.sr.codedict import codes  # takes half a second

    lesion = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="Lung lesion",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Lesion,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=_PRODUCT, version="1", family=codes.DCM.ArtificialIntelligence
        ),
    )
    return hd.seg.Segmentation(
        source_images=images,
        pixel_array=np.ascontiguousarray(frames),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[lesion],
        series_instance_uid=generate_uid(),
        series_number=900,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=_PRODUCT,
        manufacturer_model_name=_PRODUCT,
        software_versions="1",
        device_serial_number="0",
        omit_empty_frames=bool(frames.any()),
    )


def _read_images(series: Path) -> list[Any]:
    """Read the images of an axial series from the feet up, the order of the mask's slices, without their pixels."""
    files = [path for path in series_files(series) if is_dicom_file(path)]
    images = [read_dicom_file(path, stop_before_pixels=True) for path in files]
    if not images:
        raise _error(series, "it has no DICOM images")
    for image in images:
        if missing := [name for name in _COPIED if name not in image]:
            raise _error(series, f"it lacks {', '.join(missing)}")
        for name, is_valid in _VALID.items():
            if not is_valid(str(image[name].value or "")):
                raise _error(series, f"its {name} is malformed")
        if not np.allclose(image.ImageOrientationPatient, _AXIAL, atol=1e-3):
            raise _error(series, "it is not axial")
    return sorted(images, key=lambda image: float(image.ImagePositionPatient[2]))


def _error(series: Path, reason: str) -> SegmentationError:
    return SegmentationError(f"{series}: a DICOM segmentation cannot refer to it: {reason}; use the NIfTI mask alone")
