"""Write a predicted mask as a DICOM segmentation, which viewers overlay on the series it refers to."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from components.ct.grid import axial_slices
from components.ct.scan_folder import series_files
from components.runtime.errors import InputError
from components.runtime.files import atomic_write

_PRODUCT = "lung-ct-pipelines"
_AXIAL = (1, 0, 0, 0, 1, 0)  # rows run to the patient's left, columns to the back


def write_segmentation(path: Path, series: Path, mask: NDArray[np.uint8]) -> None:
    """Write an (x, y, z) RAS+ mask of 0 and 1 as DICOM SEG; it has a slice for each image of the axial series.

    Raises:
        InputError: highdicom is not installed, or the series is not axial, does not fit the mask, or lacks attributes
            that a segmentation refers to.
    """
    try:
        import highdicom as hd
    except ModuleNotFoundError as error:
        raise InputError("DICOM segmentations need highdicom; install the extra `seg`") from error
    images = _read_images(series)
    frames = axial_slices(mask)
    if frames.shape != (len(images), images[0].Rows, images[0].Columns):
        raise InputError(f"{series}: has {len(images)} images; the mask has {len(frames)} slices or another grid")
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
    try:
        segmentation = hd.seg.Segmentation(
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
        )
    except (AttributeError, ValueError, TypeError) as error:  # an attribute to copy is missing or invalid
        reason = " ".join(str(error).split())
        raise InputError(f"{series}: a DICOM segmentation cannot refer to it ({reason}); use the NIfTI mask") from error
    with atomic_write(path) as temporary:
        segmentation.save_as(temporary)


def _read_images(series: Path) -> list[Any]:
    """Read the images of an axial series from the feet up, the order of the mask's slices."""
    images = []
    for file in series_files(series):
        with suppress(InvalidDicomError):  # other files beside the images
            images.append(pydicom.dcmread(file))
    images = [image for image in images if "ImagePositionPatient" in image]
    if not images:
        raise InputError(f"{series}: no DICOM images here")
    for image in images:
        if not np.allclose(image.ImageOrientationPatient, _AXIAL, atol=1e-3):
            raise InputError(f"{series}: not axial; DICOM segmentations are written for axial series only")
    return sorted(images, key=lambda image: float(image.ImagePositionPatient[2]))
