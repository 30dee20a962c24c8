"""Read a folder of DICOM files, one series of CT slices, as a volume in HU.

Series without a regular voxel grid are rejected. dcm2niix would repair gantry tilt and uneven spacing by interpolation,
which displaces lesions silently; dicom2nifti falls back to plain stacking. The geometry follows DICOM PS3.3,
C.7.6.2.1.1.
"""

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError

from components.ct.scan_folder import series_files
from components.ct.volume import Volume, to_ras
from components.runtime.errors import VolumeError

# No other attribute is read: the rest may identify the patient.
_GEOMETRY = (
    *("Modality", "SeriesInstanceUID", "Rows", "Columns", "PixelSpacing", "ImageOrientationPatient"),
    *("ImagePositionPatient", "RescaleSlope", "RescaleIntercept", "SamplesPerPixel"),
)
_OPTIONAL = ("NumberOfFrames", "GantryDetectorTilt", "SliceThickness", "SpacingBetweenSlices", "RescaleType")
_PIXELS = (
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PhotometricInterpretation", "PixelData"),
    *("PlanarConfiguration", "NumberOfFrames"),
)
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MAX_TILT_DEGREES = 0.5  # less is rounding: over 300 mm it shifts the last slice by 2.6 mm
_SPACING_TOLERANCE, _SPACING_TOLERANCE_MM = 0.02, 0.02  # relative, and the rounding of decimal strings


def read_dicom_series(folder: Path) -> Volume:
    """Read a folder that holds one series of CT slices, in any order, as a volume of int16 HU.

    The file grid, on which masks are written, has the axes (column, row, slice) and an affine to RAS millimeters.

    Raises:
        VolumeError: no DICOM, more than one series, a modality other than CT, a tilted gantry, uneven or missing
            slices, or pixels that cannot be decoded.
    """
    slices = [_read_geometry(path) for path in series_files(folder)]
    if not slices:
        raise VolumeError(f"{folder}: holds no files; expected the DICOM files of one CT series")
    first = slices[0]
    _check_one_series(folder, slices)
    across, down = (np.array(first.ImageOrientationPatient[start : start + 3], float) for start in (0, 3))
    normal = np.cross(across, down)
    if not np.allclose([across @ across, down @ down, across @ down], [1, 1, 0], atol=1e-3):
        raise VolumeError(f"{folder}: image orientation without two directions at right angles; export it again")
    slices.sort(key=lambda item: float(np.dot(item.ImagePositionPatient, normal)))
    step_mm = _slice_step_mm(folder, slices, normal)

    voxels = np.empty((first.Columns, first.Rows, len(slices)), np.int16, order="F")
    for k, item in enumerate(slices):
        voxels[:, :, k] = _read_hu(Path(item.filename)).T
    row_spacing_mm, column_spacing_mm = map(float, first.PixelSpacing)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = across * column_spacing_mm, down * row_spacing_mm, step_mm
    affine[:3, 3] = slices[0].ImagePositionPatient
    return to_ras(voxels, _LPS_TO_RAS @ affine, voxels.dtype)


def _read_geometry(path: Path) -> pydicom.Dataset:
    item = _read(path, lambda: pydicom.dcmread(path, stop_before_pixels=True, specific_tags=[*_GEOMETRY, *_OPTIONAL]))
    if item.get("Modality", "CT") != "CT":
        raise VolumeError(f"{path}: modality {item.Modality}; expected one CT series per folder")
    if int(item.get("NumberOfFrames") or 1) != 1:
        raise VolumeError(f"{path}: several frames (enhanced CT); expected one slice; export one slice per file")
    missing = [name for name in _GEOMETRY if item.get(name) in (None, "", [])]
    if missing:
        raise VolumeError(f"{path}: lacks {', '.join(missing)}; expected a slice of a CT series; export it again")
    if int(item.SamplesPerPixel) != 1:
        raise VolumeError(f"{path}: color pixels; expected one value per pixel")
    if item.get("RescaleType", "HU") not in ("HU", "US", ""):
        raise VolumeError(f"{path}: values in {item.RescaleType}; expected Hounsfield units (HU)")
    geometry = [*item.PixelSpacing, *item.ImageOrientationPatient, *item.ImagePositionPatient]
    values = np.array([*geometry, item.RescaleSlope, item.RescaleIntercept], float)
    if len(values) != 13 or not np.isfinite(values).all() or min(item.PixelSpacing) <= 0:
        raise VolumeError(f"{path}: spacing, position, orientation or scaling is not finite; export it again")
    return item


def _check_one_series(folder: Path, slices: Sequence[pydicom.Dataset]) -> None:
    series = {str(item.SeriesInstanceUID) for item in slices}
    if len(series) > 1:
        raise VolumeError(f"{folder}: holds {len(series)} series; expected one series per folder")
    first = slices[0]
    for name in ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient"):
        values = np.array([np.atleast_1d(np.array(item[name].value, float)) for item in slices])
        if not np.allclose(values, values[0], atol=1e-4):
            raise VolumeError(f"{folder}: slices differ in {name}; expected one reconstruction per folder")
    tilt_degrees = max(abs(float(item.get("GantryDetectorTilt") or 0)) for item in slices)
    if tilt_degrees > _MAX_TILT_DEGREES:
        raise VolumeError(
            f"{folder}: gantry tilt of {tilt_degrees:g} degrees; expected a box of "
            f"{first.Columns}×{first.Rows}×{len(slices)} voxels; resample it at the scanner or workstation"
        )


def _slice_step_mm(folder: Path, slices: Sequence[pydicom.Dataset], normal: NDArray) -> NDArray[np.float64]:
    """The vector from one slice to the next in LPS millimeters; the slices are sorted along `normal`."""
    if len(slices) == 1:
        thickness = slices[0].get("SpacingBetweenSlices") or slices[0].get("SliceThickness")
        if not thickness or not float(thickness) > 0:
            raise VolumeError(f"{folder}: one slice without a thickness; expected a whole series")
        return normal * float(thickness)
    positions = np.array([item.ImagePositionPatient for item in slices], float)
    gaps_mm = np.diff(positions @ normal)
    if duplicates := int((gaps_mm < 1e-3).sum()):
        raise VolumeError(f"{folder}: {duplicates} slices at duplicate positions; expected one reconstruction")
    _check_gaps(folder, gaps_mm)
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    tilt_degrees = float(np.degrees(np.arccos(np.clip(step @ normal / np.linalg.norm(step), -1, 1))))
    if tilt_degrees > _MAX_TILT_DEGREES:
        raise VolumeError(
            f"{folder}: slices sheared by {tilt_degrees:.1f} degrees (gantry tilt); expected a box; resample it at "
            "the scanner or workstation"
        )
    return step


def _check_gaps(folder: Path, gaps_mm: NDArray) -> None:
    spacing_mm = float(np.median(gaps_mm))  # robust against missing slices
    is_uneven = np.abs(gaps_mm - spacing_mm) > max(_SPACING_TOLERANCE_MM, _SPACING_TOLERANCE * spacing_mm)
    if not is_uneven.any():
        return
    first, multiples = int(np.flatnonzero(is_uneven)[0]), gaps_mm[is_uneven] / spacing_mm
    if (np.abs(multiples - np.rint(multiples)) < 0.1).all() and (multiples > 1.5).all():
        raise VolumeError(
            f"{folder}: {int((np.rint(multiples) - 1).sum())} slices are missing, the first after slice {first + 1}: "
            f"gap of {gaps_mm[first]:.2f} mm; expected {spacing_mm:.2f} mm; export the whole series"
        )
    raise VolumeError(
        f"{folder}: slices are {gaps_mm.min():.2f} to {gaps_mm.max():.2f} mm apart, uneven from slice {first + 1} on; "
        "expected one spacing; export an evenly spaced reconstruction"
    )


def _read_hu(path: Path) -> NDArray[np.int16]:
    """Read one slice as (rows, columns) HU."""

    def decode() -> tuple[pydicom.Dataset, NDArray]:
        item = pydicom.dcmread(path, specific_tags=[*_GEOMETRY, *_PIXELS])
        return item, item.pixel_array

    item, stored = _read(path, decode)
    if stored.shape != (item.Rows, item.Columns):
        raise VolumeError(f"{path}: {stored.shape} pixels; expected {item.Rows}×{item.Columns}")
    hu = stored * np.float64(item.RescaleSlope) + np.float64(item.RescaleIntercept)
    limits = np.iinfo(np.int16)
    return np.rint(np.clip(hu, limits.min, limits.max)).astype(np.int16)


def _read(path: Path, read: Callable[[], Any]) -> Any:
    try:
        # Validation warnings quote values, which may include names.
        with pydicom.config.disable_value_validation():
            return read()
    except InvalidDicomError:
        raise VolumeError(f"{path}: not a DICOM file; expected only one series in the folder") from None
    except (AttributeError, ValueError, NotImplementedError, RuntimeError, EOFError, KeyError, struct.error) as error:
        raise VolumeError(
            f"{path}: pixels cannot be decoded ({type(error).__name__}): truncated, or a compression that requires a "
            "plug-in; export it uncompressed"
        ) from None
    except OSError as error:
        raise VolumeError(f"{path}: cannot be read ({error.strerror or error})") from error
