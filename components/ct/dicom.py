"""Read a folder of DICOM files, one series of CT slices, as a volume in HU.

Series without a regular voxel grid are rejected. dcm2niix would repair gantry tilt and uneven spacing by interpolation,
which displaces lesions silently; dicom2nifti falls back to plain stacking. The geometry follows DICOM PS3.3,
C.7.6.2.1.1.
"""

import re
from collections import defaultdict
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
_SINGLE_NUMBERS = ("GantryDetectorTilt", "SliceThickness", "SpacingBetweenSlices")  # of a series of one slice
_PIXEL_FORMAT = ("BitsAllocated", "BitsStored", "PixelRepresentation", "PhotometricInterpretation")
_REQUIRED = ("SeriesInstanceUID", *_NUMBERS, *_PIXEL_FORMAT)
_GEOMETRY = ("Modality", "RescaleType", "NumberOfFrames", *_REQUIRED, *_SINGLE_NUMBERS)
_PIXELS = (
    *("Rows", "Columns", "SamplesPerPixel", "HighBit", *_PIXEL_FORMAT),
    *("PixelData", "PlanarConfiguration", "NumberOfFrames", "PixelPaddingValue"),
)
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Of a slice's position, from that in an even series: along the series, positions rounded to 0.1 mm and a share of the
# spacing; across it, less than a pixel.
_ALONG_TOLERANCE_MM, _ALONG_TOLERANCE, _ACROSS_TOLERANCE_MM = 0.06, 0.02, 0.5
_MAX_NAMED = 3  # series in a message
_PADDING_HU = -1024
_INT16 = np.iinfo(np.int16)


@dataclass(frozen=True)
class _Slice:
    """The header of a file; `numbers` holds finite values of `_NUMBERS` and of what else is read."""

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
    files = series_files(folder)
    slices = [_read_slice(path, _SINGLE_NUMBERS if len(files) == 1 else ()) for path in files]
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
    affine[:3, 2] = _slice_step_mm(folder, slices, normal) if len(slices) > 1 else normal * _thickness_mm(first)
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


def _read_slice(path: Path, optional: Sequence[str]) -> _Slice:
    def parse() -> _Slice:
        item = read_dicom_file(path, stop_before_pixels=True, specific_tags=[*_GEOMETRY])
        if (modality := str(item.get("Modality", "CT"))) != "CT":
            raise VolumeError(f"{path}: modality {_shown(modality)}; expected one CT series per folder")
        found = {name: _parse_numbers(path, item, name) for name in ("NumberOfFrames", *_NUMBERS, *optional)}
        numbers = {name: values for name, values in found.items() if values is not None}
        missing = [name for name in _REQUIRED if not (name in numbers or item.get(name) not in (None, ""))]
        if int(numbers.get("NumberOfFrames", [1])[0]) > 1:
            raise VolumeError(f"{path}: several frames (enhanced CT); expected one slice; export one slice per file")
        if missing:
            raise VolumeError(f"{path}: lacks {', '.join(missing)}; expected a slice of a CT series; export it again")
        if numbers["SamplesPerPixel"] != 1:
            raise VolumeError(f"{path}: color pixels; expected one value per pixel")
        if (unit := str(item.get("RescaleType") or "HU").strip()).upper() not in ("HU", "US"):
            raise VolumeError(f"{path}: values in {_shown(unit)}; expected Hounsfield units (HU)")
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
    by_series = defaultdict(list)
    for item in slices:
        by_series[item.series].append(item.path)
    if len(by_series) > 1:
        files = sorted(by_series.values(), key=len, reverse=True)
        raise VolumeError(
            f"{folder}: holds {len(files)} series of {_list_first([len(paths) for paths in files])} slices; expected "
            "one series per folder; move the files of the others away: "
            + _list_first([paths[0].relative_to(folder) for paths in files[1:]])
        )
    for name in ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient"):
        values = np.array([item[name] for item in slices])
        is_other = ~np.isclose(values, np.median(values, axis=0), atol=1e-4).all(axis=1)
        if is_other.any():
            path = slices[int(is_other.argmax())].path
            raise VolumeError(
                f"{path}: the slice differs in {name}; expected one reconstruction per folder; move it away"
            )


def _list_first(things: Sequence[object]) -> str:
    return ", ".join([*map(str, things[:_MAX_NAMED]), *["…"] * (len(things) > _MAX_NAMED)])


def _thickness_mm(item: _Slice) -> float:
    """The thickness of a series of one slice, which has no spacing; its tilt is not in its position, either."""
    if (tilt_degrees := abs(item.optional("GantryDetectorTilt", 0))) > MAX_SHEAR_DEGREES:
        raise VolumeError(
            f"{item.path}: gantry tilt of {tilt_degrees:g} degrees; expected none; resample it at the scanner or "
            "workstation"
        )
    thickness_mm = item.optional("SpacingBetweenSlices", 0) or item.optional("SliceThickness", 0)
    if not thickness_mm > 0:
        raise VolumeError(f"{item.path}: one slice without a thickness; expected a whole series")
    return thickness_mm


def _slice_step_mm(folder: Path, slices: Sequence[_Slice], normal: NDArray) -> NDArray[np.float64]:
    """The vector from one slice to the next in LPS millimeters; the slices are sorted along `normal`.

    It is that of the line through all positions, because single positions may be rounded.
    """
    positions = np.array([item["ImagePositionPatient"] for item in slices])
    gaps_mm = np.diff(positions @ normal)
    if duplicates := int((gaps_mm < 1e-3).sum()):
        path = slices[int(gaps_mm.argmin()) + 1].path
        raise VolumeError(f"{path}: a duplicate of another position ({duplicates} in all); expected one reconstruction")
    spacing_mm = gaps_mm[gaps_mm < 1.6 * np.median(gaps_mm)].mean()  # without gaps
    steps = np.maximum(1, np.rint(gaps_mm / spacing_mm))
    index = np.append(0, np.cumsum(steps))
    index -= index.mean()
    step: NDArray[np.float64] = index @ (positions - positions[0]) / (index @ index)  # least squares
    _check_line(slices, positions - index[:, None] * step, normal, gaps_mm)
    if missing := int(steps.sum()) - len(steps):
        after = int((steps > 1).argmax())
        raise VolumeError(
            f"{folder}: {missing} slice{'s are' if missing > 1 else ' is'} missing, the first after slice {after + 1} "
            f"({slices[after].path.name}): gap of {gaps_mm[after]:.2f} mm; expected {spacing_mm:.2f} mm; export the "
            "whole series"
        )
    return step


def _check_line(slices: Sequence[_Slice], origins_mm: NDArray, normal: NDArray, gaps_mm: NDArray) -> None:
    """Check that all slices, each moved back to the first by its number of steps, meet in one point."""
    errors_mm = origins_mm - origins_mm.mean(axis=0)
    along_mm = errors_mm @ normal
    across_mm = np.linalg.norm(errors_mm - np.outer(along_mm, normal), axis=1)
    along_mm = np.abs(along_mm)
    if along_mm.max() > _ALONG_TOLERANCE_MM + _ALONG_TOLERANCE * np.median(gaps_mm):
        raise VolumeError(
            f"{slices[int(along_mm.argmax())].path}: the slice breaks an even spacing: slices are {gaps_mm.min():.2f} "
            f"to {gaps_mm.max():.2f} mm apart; expected one spacing; export an even reconstruction"
        )
    if across_mm.max() > _ACROSS_TOLERANCE_MM:
        raise VolumeError(
            f"{slices[int(across_mm.argmax())].path}: the slice is {across_mm.max():.1f} mm beside the line of all; "
            "expected slices above one another; move it away, or export the series again"
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
        raise VolumeError(
            f"{path}: not a DICOM file, perhaps damaged; expected a slice of a series; export it again, or move it away"
        ) from None
    except OSError as error:
        raise VolumeError(f"{path}: cannot be read ({error.strerror or error})") from error
    except VolumeError:
        raise
    except Exception as error:  # pydicom and its decoders raise errors of any type on damaged files
        raise VolumeError(
            f"{path}: pixels cannot be decoded ({type(error).__name__}): truncated, or a compression that requires a "
            "plug-in; export it uncompressed"
        ) from None
