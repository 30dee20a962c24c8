"""A folder of DICOM files, one series of CT slices, as a volume in HU.

The converters that are kept well were weighed and not taken: dcm2niix repairs gantry tilt and uneven gaps by
interpolation, which moves lesions without a word, and is no Python; dicom2nifti writes files only and falls back to
plain stacking. Here the point is to refuse what is no regular grid, in a line that says why. pydicom reads the files
and unpacks the pixels; the geometry is DICOM PS3.3, C.7.6.2.1.1.
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

# Only these are read: whatever else the files say about a person stays unread.
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
_TILT_DEGREES = 0.5  # less is rounding: over 300 mm it moves the last slice by 2.6 mm
_GAP_WITHIN = 0.02  # of the spacing, or
_GAP_WITHIN_MM = 0.02  # what decimal strings of positions lose


def read_dicom_series(folder: Path) -> Volume:
    """Read a folder that holds one series of CT slices, in whatever order, as a volume of int16 HU.

    The volume's file grid has the axes (column, row, slice) and an affine to RAS millimeters, so that a mask is
    written as a NIfTI file that lies on the scan.

    Raises:
        VolumeError: no DICOM, more than one series, another modality than CT, a tilted gantry, uneven or missing
            slices, or pixels that cannot be unpacked.
    """
    slices = [_read_geometry(path) for path in series_files(folder)]
    if not slices:
        raise VolumeError(f"{folder}: holds no files; expected the DICOM files of one CT series")
    first = slices[0]
    _check_one_ct_series(folder, slices)
    across, down = (np.array(first.ImageOrientationPatient[at : at + 3], float) for at in (0, 3))
    normal = np.cross(across, down)
    if not np.allclose([across @ across, down @ down, across @ down], [1, 1, 0], atol=1e-3):
        raise VolumeError(f"{folder}: its image orientation is not two directions at right angles; export it again")
    slices.sort(key=lambda item: float(np.dot(item.ImagePositionPatient, normal)))
    step_mm = _step_mm(folder, slices, normal)

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
        raise VolumeError(f"{path}: its modality is {item.Modality}; expected a CT series, one to a folder")
    if int(item.get("NumberOfFrames") or 1) != 1:
        raise VolumeError(f"{path}: holds several frames (enhanced CT); export it with one slice to a file")
    missing = [name for name in _GEOMETRY if item.get(name) in (None, "", [])]
    if missing:
        raise VolumeError(f"{path}: lacks {', '.join(missing)}; expected the slices of a CT series, as exported")
    if int(item.SamplesPerPixel) != 1:
        raise VolumeError(f"{path}: holds colors; expected one number for each pixel")
    if item.get("RescaleType", "HU") not in ("HU", "US", ""):
        raise VolumeError(f"{path}: its numbers are in {item.RescaleType}; expected Hounsfield units (HU)")
    numbers = [*item.PixelSpacing, *item.ImageOrientationPatient, *item.ImagePositionPatient]
    scaling = [item.RescaleSlope, item.RescaleIntercept]
    if (
        len(numbers) != 11
        or not np.isfinite(np.array([*numbers, *scaling], float)).all()
        or min(item.PixelSpacing) <= 0
    ):
        raise VolumeError(f"{path}: its spacing, position, orientation or scaling is not finite; export it again")
    return item


def _check_one_ct_series(folder: Path, slices: Sequence[pydicom.Dataset]) -> None:
    series = {str(item.SeriesInstanceUID) for item in slices}
    if len(series) > 1:
        raise VolumeError(f"{folder}: {len(series)} series are mixed in it; keep one series to a folder")
    first = slices[0]
    for name in ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient"):
        values = np.array([np.atleast_1d(np.array(item[name].value, float)) for item in slices])
        if not np.allclose(values, values[0], atol=1e-4):
            raise VolumeError(f"{folder}: its slices differ in {name}; keep one reconstruction to a folder")
    tilt = max(abs(float(item.get("GantryDetectorTilt") or 0)) for item in slices)
    if tilt > _TILT_DEGREES:
        raise VolumeError(
            f"{folder}: was taken with the gantry tilted by {tilt:g} degrees, so that its slices do not stack to a "
            f"box of {first.Columns}×{first.Rows}×{len(slices)}; resample it at the scanner or workstation"
        )


def _step_mm(folder: Path, slices: Sequence[pydicom.Dataset], normal: NDArray) -> NDArray[np.float64]:
    """From one slice to the next, in LPS millimeters; the slices are sorted along `normal`."""
    if len(slices) == 1:
        thickness = slices[0].get("SpacingBetweenSlices") or slices[0].get("SliceThickness")
        if not thickness or not float(thickness) > 0:
            raise VolumeError(f"{folder}: holds one slice, without its thickness; expected a whole series")
        return normal * float(thickness)
    positions = np.array([item.ImagePositionPatient for item in slices], float)
    gaps_mm = np.diff(positions @ normal)
    if same := int((gaps_mm < 1e-3).sum()):
        raise VolumeError(f"{folder}: {same} slices lie where another one does; keep one reconstruction to a folder")
    # Where slices are missing, most gaps still show the spacing.
    spacing_mm = float(np.median(gaps_mm))
    off = np.abs(gaps_mm - spacing_mm) > max(_GAP_WITHIN_MM, _GAP_WITHIN * spacing_mm)
    if off.any():
        _refuse_gaps(folder, gaps_mm, spacing_mm, off)
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    tilt = float(np.degrees(np.arccos(np.clip(step @ normal / np.linalg.norm(step), -1, 1))))
    if tilt > _TILT_DEGREES:
        raise VolumeError(
            f"{folder}: its slices are shifted against each other by {tilt:.1f} degrees (a tilted gantry); "
            "resample it at the scanner or workstation"
        )
    return step


def _refuse_gaps(folder: Path, gaps_mm: NDArray, spacing_mm: float, off: NDArray) -> None:
    times = gaps_mm[off] / spacing_mm
    at = int(np.flatnonzero(off)[0])
    if (np.abs(times - np.rint(times)) < 0.1).all() and (times > 1.5).all():
        lost = int((np.rint(times) - 1).sum())
        raise VolumeError(
            f"{folder}: {lost} slices are missing, the first after slice {at + 1}: the gap there is "
            f"{gaps_mm[at]:.2f} mm where {spacing_mm:.2f} mm is usual; export the whole series"
        )
    raise VolumeError(
        f"{folder}: its slices are {gaps_mm.min():.2f} to {gaps_mm.max():.2f} mm apart, unevenly from slice {at + 1} "
        "on; export a reconstruction with one spacing"
    )


def _read_hu(path: Path) -> NDArray[np.int16]:
    """One slice, (rows, columns) in HU."""

    def unpack() -> tuple[pydicom.Dataset, NDArray]:
        item = pydicom.dcmread(path, specific_tags=[*_GEOMETRY, *_PIXELS])
        return item, item.pixel_array

    item, stored = _read(path, unpack)
    if stored.shape != (item.Rows, item.Columns):
        raise VolumeError(f"{path}: holds {stored.shape} pixels; expected {item.Rows}×{item.Columns}")
    hu = stored * np.float64(item.RescaleSlope) + np.float64(item.RescaleIntercept)
    limits = np.iinfo(np.int16)
    return np.rint(np.clip(hu, limits.min, limits.max)).astype(np.int16)


def _read(path: Path, read: Callable[[], Any]) -> Any:
    try:
        # Without this, pydicom warns of odd values and shows them, names among them.
        with pydicom.config.disable_value_validation():
            return read()
    except InvalidDicomError:
        raise VolumeError(f"{path}: is no DICOM file; keep one series, and nothing else, to a folder") from None
    except (AttributeError, ValueError, NotImplementedError, RuntimeError, EOFError, KeyError, struct.error) as error:
        raise VolumeError(
            f"{path}: its pixels cannot be unpacked ({type(error).__name__}): truncated, or compressed in a way that "
            "needs a plug-in; export it uncompressed"
        ) from None
    except OSError as error:
        raise VolumeError(f"{path}: cannot be read ({error.strerror or error})") from error
