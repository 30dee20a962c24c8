"""Read a folder of DICOM files, one series of CT slices, as a volume in HU.

Series without a regular voxel grid are rejected. dcm2niix would repair gantry tilt and uneven spacing by interpolation,
which displaces lesions silently; dicom2nifti falls back to plain stacking. The geometry follows DICOM PS3.3,
C.7.6.2.1.1.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from components.ct.geometry import MAX_SHEAR_DEGREES, apply_rules, check_affine
from components.ct.scan_folder import is_dicom_file, series_files
from components.ct.volume import FileGrid, Volume, to_ras
from components.runtime.errors import VolumeError

# No other attribute is read: the rest may identify the patient.
_NUMBERS = dict.fromkeys(("Rows", "Columns", "SamplesPerPixel", "RescaleSlope", "RescaleIntercept"), 1) | {
    "PixelSpacing": 2,
    "ImageOrientationPatient": 6,
    "ImagePositionPatient": 3,
}  # with the count of their values
_OPTIONAL_NUMBERS = ("NumberOfFrames", "GantryDetectorTilt", "SliceThickness", "SpacingBetweenSlices")
_GEOMETRY = ("Modality", "SeriesInstanceUID", "RescaleType", *_NUMBERS, *_OPTIONAL_NUMBERS)
_PIXELS = (
    *("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("PhotometricInterpretation", "PixelData", "PlanarConfiguration", "NumberOfFrames", "PixelPaddingValue"),
)
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SPACING_TOLERANCE, _SPACING_TOLERANCE_MM = 0.02, 0.02  # relative, and the rounding of decimal strings
_PADDING_HU = -1024
_INT16 = np.iinfo(np.int16)


@dataclass(frozen=True)
class _Slice:
    """The header of a file; `numbers` holds finite values of `_NUMBERS` and, where present, of `_OPTIONAL_NUMBERS`."""

    path: Path
    series: str
    numbers: dict[str, NDArray[np.float64]]

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        return self.numbers[name]

    def optional(self, name: str, default: float) -> float:
        return float(self.numbers[name][0]) if name in self.numbers else default


def read_dicom_series(folder: Path) -> Volume:
    """Read a folder that holds one series of CT slices, in any order, as a volume of int16 HU.

    The file grid, on which masks are written, has the axes (column, row, slice) and an affine to RAS millimeters.

    Raises:
        VolumeError: no DICOM, more than one series, a modality other than CT, a tilted gantry, uneven or missing
            slices, or attributes or pixels that cannot be decoded.
    """
    slices = [_read_slice(path) for path in series_files(folder)]
    if not slices:
        raise VolumeError(f"{folder}: holds no files; expected the DICOM files of one CT series")
    _check_one_series(folder, slices)
    first = slices[0]
    across, down = first["ImageOrientationPatient"].reshape(2, 3)
    normal = np.cross(across, down)
    if not np.allclose([across @ across, down @ down, across @ down], [1, 1, 0], atol=1e-3):
        raise VolumeError(f"{folder}: image orientation without two directions at right angles; export it again")
    slices.sort(key=lambda item: float(item["ImagePositionPatient"] @ normal))
    row_spacing_mm, column_spacing_mm = first["PixelSpacing"]
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = across * column_spacing_mm, down * row_spacing_mm
    affine[:3, 2] = _slice_step_mm(folder, slices, normal)
    affine[:3, 3] = slices[0]["ImagePositionPatient"]
    affine = _LPS_TO_RAS @ affine
    notes = apply_rules(folder, check_affine(affine))

    shape = (int(first["Columns"][0]), int(first["Rows"][0]), len(slices))
    voxels = np.empty(shape, np.int16, order="F")
    for k, item in enumerate(slices):
        voxels[:, :, k] = _read_hu(item).T
    return to_ras(voxels, FileGrid(shape, affine), voxels.dtype, notes)


def read_dicom_file(path: Path, **options: Any) -> pydicom.Dataset:
    """Read a DICOM file as `pydicom.dcmread` does, also without preamble and meta information.

    Raises:
        InvalidDicomError: it is another kind of file.
    """
    if not is_dicom_file(path):
        raise InvalidDicomError
    item = pydicom.dcmread(path, force=True, **options)
    if "TransferSyntaxUID" not in item.file_meta:
        is_implicit, _ = item.original_encoding
        item.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian
    return item


def _read_slice(path: Path) -> _Slice:
    def parse() -> _Slice:
        item = read_dicom_file(path, stop_before_pixels=True, specific_tags=[*_GEOMETRY])
        if (modality := str(item.get("Modality", "CT"))) != "CT":
            raise VolumeError(f"{path}: modality {_shown(modality)}; expected one CT series per folder")
        found = {name: _parse_numbers(path, item, name) for name in (*_NUMBERS, *_OPTIONAL_NUMBERS)}
        numbers = {name: values for name, values in found.items() if values is not None}
        missing = [name for name in ("SeriesInstanceUID", *_NUMBERS) if not (name in numbers or item.get(name))]
        if int(numbers.get("NumberOfFrames", [1])[0]) != 1:
            raise VolumeError(f"{path}: several frames (enhanced CT); expected one slice; export one slice per file")
        if missing:
            raise VolumeError(f"{path}: lacks {', '.join(missing)}; expected a slice of a CT series; export it again")
        if numbers["SamplesPerPixel"] != 1:
            raise VolumeError(f"{path}: color pixels; expected one value per pixel")
        if (unit := item.get("RescaleType", "HU")) not in ("HU", "US", "", None):
            raise VolumeError(f"{path}: values in {_shown(str(unit))}; expected Hounsfield units (HU)")
        if min(*numbers["PixelSpacing"], *numbers["Rows"], *numbers["Columns"]) <= 0:
            raise VolumeError(f"{path}: Rows, Columns or PixelSpacing is not above 0; export it again")
        return _Slice(path, str(item.SeriesInstanceUID), numbers)

    parsed: _Slice = _read(path, parse)
    return parsed


def _shown(code: str) -> str:
    """Return a code for a message; in a damaged file, a name may be part of it."""
    return code if re.fullmatch(r"[A-Z0-9_]{1,16}", code) else "unknown"


def _parse_numbers(path: Path, item: pydicom.Dataset, name: str) -> NDArray[np.float64] | None:
    """Return the values of an attribute; None if it is absent or empty."""
    count, value = _NUMBERS.get(name, 1), None
    try:
        value = item.get(name)
        if value in (None, "", []):
            return None
        numbers = np.atleast_1d(np.array(value, float))
    except (ValueError, TypeError, ArithmeticError):
        numbers = np.array([])  # such as a decimal comma
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        # Other characters may be a name.
        found = f"is {value}" if re.fullmatch(r"[\d.,;\\eE+ '\[\]-]+", str(value)) else "does not parse"
        numerals = "a finite number" if count == 1 else f"{count} finite numbers"
        raise VolumeError(f"{path}: {name} {found}; expected {numerals} with decimal points; export it again")
    return numbers


def _check_one_series(folder: Path, slices: Sequence[_Slice]) -> None:
    files = Counter(item.series for item in slices)
    if len(files) > 1:
        places = sorted({str(item.path.parent.relative_to(folder)) for item in slices} - {"."})
        raise VolumeError(
            f"{folder}: holds {len(files)} series of {', '.join(map(str, sorted(files.values())))} slices"
            f"{' in ' + ', '.join(places) if places else ''}; expected one series per folder; move the others away"
        )
    for name in ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient"):
        values = np.array([item[name] for item in slices])
        if not np.allclose(values, values[0], atol=1e-4):
            raise VolumeError(f"{folder}: slices differ in {name}; expected one reconstruction per folder")
    tilt_degrees = max(abs(item.optional("GantryDetectorTilt", 0)) for item in slices)
    if tilt_degrees > MAX_SHEAR_DEGREES:
        columns, rows = int(slices[0]["Columns"][0]), int(slices[0]["Rows"][0])
        raise VolumeError(
            f"{folder}: gantry tilt of {tilt_degrees:g} degrees; expected a box of {columns}×{rows}×{len(slices)} "
            "voxels; resample it at the scanner or workstation"
        )


def _slice_step_mm(folder: Path, slices: Sequence[_Slice], normal: NDArray) -> NDArray[np.float64]:
    """The vector from one slice to the next in LPS millimeters; the slices are sorted along `normal`."""
    if len(slices) == 1:
        thickness_mm = slices[0].optional("SpacingBetweenSlices", 0) or slices[0].optional("SliceThickness", 0)
        if not thickness_mm > 0:
            raise VolumeError(f"{folder}: one slice without a thickness; expected a whole series")
        return normal * thickness_mm
    positions = np.array([item["ImagePositionPatient"] for item in slices])
    gaps_mm = np.diff(positions @ normal)
    if duplicates := int((gaps_mm < 1e-3).sum()):
        raise VolumeError(f"{folder}: {duplicates} slices at duplicate positions; expected one reconstruction")
    _check_gaps(folder, gaps_mm)
    step: NDArray[np.float64] = (positions[-1] - positions[0]) / (len(slices) - 1)
    return step


def _check_gaps(folder: Path, gaps_mm: NDArray) -> None:
    spacing_mm = float(np.median(gaps_mm))  # robust against missing slices
    is_uneven = np.abs(gaps_mm - spacing_mm) > max(_SPACING_TOLERANCE_MM, _SPACING_TOLERANCE * spacing_mm)
    if not is_uneven.any():
        return
    first, multiples = int(np.flatnonzero(is_uneven)[0]), gaps_mm[is_uneven] / spacing_mm
    if (np.abs(multiples - np.rint(multiples)) < 0.1).all() and (multiples > 1.5).all():
        missing = int((np.rint(multiples) - 1).sum())
        raise VolumeError(
            f"{folder}: {missing} slice{'s are' if missing > 1 else ' is'} missing, the first after slice {first + 1}: "
            f"gap of {gaps_mm[first]:.2f} mm; expected {spacing_mm:.2f} mm; export the whole series"
        )
    raise VolumeError(
        f"{folder}: slices are {gaps_mm.min():.2f} to {gaps_mm.max():.2f} mm apart, uneven from slice {first + 1} on; "
        "expected one spacing; export an evenly spaced reconstruction"
    )


def _read_hu(item: _Slice) -> NDArray[np.int16]:
    """Read one slice as (rows, columns) HU; declared padding becomes air."""

    def decode() -> NDArray[np.float64]:
        image = read_dicom_file(item.path, specific_tags=[*_PIXELS])
        stored = image.pixel_array
        hu = stored * item["RescaleSlope"] + item["RescaleIntercept"]
        padding = image.get("PixelPaddingValue")
        if isinstance(padding, int):  # signed or unsigned, whatever the pixels are (DICOM PS3.3, C.7.5.1.1.2)
            hu[(stored.astype(np.int64) - padding) % (1 << 16) == 0] = _PADDING_HU
        return hu

    hu: NDArray[np.float64] = _read(item.path, decode)
    if hu.shape != (item["Rows"][0], item["Columns"][0]):
        raise VolumeError(f"{item.path}: {hu.shape} pixels; expected {item['Rows'][0]:g}×{item['Columns'][0]:g}")
    if (highest := float(hu.max())) > _INT16.max:
        raise VolumeError(
            f"{item.path}: values up to {highest:,.0f} HU; expected no more than {_INT16.max:,}; the padding is not "
            "declared (PixelPaddingValue), or the scaling is wrong; export the series again"
        )
    return np.rint(np.maximum(hu, _INT16.min)).astype(np.int16)


def _read(path: Path, read: Callable[[], Any]) -> Any:
    try:
        # Validation warnings quote values, which may include names.
        with pydicom.config.disable_value_validation():
            return read()
    except InvalidDicomError:
        raise VolumeError(f"{path}: not a DICOM file; expected only one series in the folder") from None
    except OSError as error:
        raise VolumeError(f"{path}: cannot be read ({error.strerror or error})") from error
    except VolumeError:
        raise
    except Exception as error:  # pydicom and its decoders raise errors of any type on damaged files
        raise VolumeError(
            f"{path}: pixels cannot be decoded ({type(error).__name__}): truncated, or a compression that requires a "
            "plug-in; export it uncompressed"
        ) from None
