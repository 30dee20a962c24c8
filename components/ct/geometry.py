"""The rules for a voxel grid: one set for NIfTI and DICOM, for training and prediction.

A grid that would give a wrong volume or orientation is refused. A doubtful one is used with a note.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from components.ct.grid import MAX_EDGE
from components.runtime.errors import VolumeError, format_beside

MAX_SHEAR_DEGREES = 0.5  # less is rounding: over 300 mm it shifts the last slice by 2.6 mm
# The network sees pixels, not millimeters, and is trained with pixels that are square up to a stretch of 1.1
# (`components.train.recipe`). Scanners reconstruct square pixels.
MAX_PIXEL_RATIO = 1.2
_EDGE_TOLERANCE = 0.01  # relative: far above the float32 rounding of headers
_GRID_TOLERANCE = 0.1  # of the smallest voxel edge
_MIN_EDGE_MM = 0.2  # of a chest CT
_MAX_TILT_DEGREES = 30
_UNITS = {1: "meters", 3: "micrometers"}  # of length, in xyzt_units (nifti1.h); 0 is unknown, 2 is mm


class Finding(NamedTuple):
    """A doubt about a grid."""

    text: str
    is_refusal: bool = True


_DEGENERATE = Finding("affine is not finite or not invertible; rewrite the header's geometry")


def apply_rules(source: Path, findings: Iterable[Finding]) -> tuple[str, ...]:
    """Return the notes among `findings`; raise `VolumeError` with the refusals."""
    findings = list(findings)
    refusals = [finding.text for finding in findings if finding.is_refusal]
    if refusals:
        raise VolumeError(f"{source}: {'; '.join(refusals)}")
    return tuple(finding.text for finding in findings)


def check_affine(affine: NDArray[np.float64]) -> Iterator[Finding]:
    """Check a (4, 4) affine from voxels to RAS millimeters."""
    if _is_degenerate(affine):
        yield _DEGENERATE
        return
    edges_mm = nib.affines.voxel_sizes(affine)
    cosines = np.abs(np.triu((affine[:3, :3] / edges_mm).T @ (affine[:3, :3] / edges_mm), 1)).max()
    shear_degrees = float(np.degrees(np.arcsin(min(1.0, cosines))))
    if shear_degrees > MAX_SHEAR_DEGREES:
        yield Finding(
            f"the grid is sheared by {shear_degrees:.2f} degrees (gantry tilt); expected axes at right angles, within "
            f"{MAX_SHEAR_DEGREES:g}; resample it to a box at the scanner or workstation"
        )
        return
    axes = nib.io_orientation(affine)[:, 0]
    column_mm, row_mm, slice_mm = edges_mm[np.argsort(axes)]
    ratio = round(max(column_mm, row_mm) / min(column_mm, row_mm), 4)
    if ratio > MAX_PIXEL_RATIO:
        yield Finding(
            f"the pixels of axial slices have {column_mm:.4g}×{row_mm:.4g} mm, a ratio of {ratio:.5g}; expected square "
            f"pixels, up to {MAX_PIXEL_RATIO:g}, because the network sees pixels, not mm; resample it"
        )
    for name, edge_mm, high_mm in (("columns", column_mm, 5), ("rows", row_mm, 5), ("slices", slice_mm, 10)):
        if not _MIN_EDGE_MM <= round(edge_mm, 4) <= high_mm:
            text = f"{name} are {edge_mm:.6g} mm apart; expected {_MIN_EDGE_MM} to {high_mm} mm; check the spacing"
            yield Finding(text, is_refusal=False)
    tilt_degrees = float(np.degrees(nib.affines.obliquity(affine).max()))
    if tilt_degrees > _MAX_TILT_DEGREES:
        tilt = format_beside(tilt_degrees, _MAX_TILT_DEGREES)
        text = f"slices are tilted by {tilt} degrees; expected axial slices, up to {_MAX_TILT_DEGREES} degrees"
        yield Finding(text, is_refusal=False)


def check_header(header: nib.Nifti1Header) -> Iterator[Finding]:
    """Check the geometry of a NIfTI header: dimensions, unit, and the agreement of pixdim, qform and sform."""
    axes = int(header["dim"][0])
    dims = [int(n) for n in header["dim"][1 : 1 + max(0, min(axes, 7))]]
    spacing_mm = header["pixdim"][1:4].astype(float)
    if axes < 3 or len(dims) != axes or any(n != 1 for n in dims[3:]):
        yield Finding(f"dimensions {dims}; expected one 3-D volume (x, y, z)")
    elif min(dims) < 1 or max(dims) > MAX_EDGE:
        yield Finding(f"declares dimensions {dims[:3]}; expected 1 to {MAX_EDGE} each")
    elif not (np.isfinite(spacing_mm).all() and (spacing_mm > 0).all()):
        yield Finding(f"voxel spacing {spacing_mm.tolist()} mm; expected finite numbers above 0")
    elif (unit := _UNITS.get(int(header["xyzt_units"]) & 0b111)) is not None:
        yield Finding(f"lengths are in {unit} (xyzt_units); expected millimeters; rewrite the header")
    else:
        yield from _check_transforms(header, spacing_mm)


def is_oriented(header: nib.Nifti1Header) -> bool:
    """Whether a header states its orientation; otherwise readers differ in what they assume."""
    return bool(header["sform_code"] > 0 or header["qform_code"] > 0)


def grid_distance_mm(shape: tuple[int, ...], first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """The largest distance along an axis between the corners of a grid under two affines."""
    corners = np.array(np.meshgrid(*((0, n - 1) for n in shape[:3]), [1])).reshape(4, -1)
    return float(np.abs(((first - second) @ corners)[:3]).max())


def is_same_grid(shape: tuple[int, ...], first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
    """Whether two affines place a grid alike, within a tenth of its smallest voxel edge."""
    return grid_distance_mm(shape, first, second) <= _GRID_TOLERANCE * nib.affines.voxel_sizes(first).min()


def _check_transforms(header: nib.Nifti1Header, spacing_mm: NDArray[np.float64]) -> Iterator[Finding]:
    affine = _read_affine(header.get_best_affine)
    has_both = header["sform_code"] > 0 and header["qform_code"] > 0
    qform = _read_affine(header.get_qform) if has_both else affine
    if _is_degenerate(affine):
        yield _DEGENERATE
        return
    orientation = "".join(nib.aff2axcodes(affine))
    edges_mm = nib.affines.voxel_sizes(affine)
    if not is_oriented(header):
        text = f"the header has no orientation (qform_code = sform_code = 0); read as {orientation}"
        yield Finding(text, is_refusal=False)
    elif not np.allclose(edges_mm, spacing_mm, rtol=_EDGE_TOLERANCE):
        yield _contradiction("voxel edges", _join(spacing_mm), _join(edges_mm), "pixdim")
    elif _is_degenerate(qform):
        yield Finding("the qform is not finite or not invertible; the sform is used", is_refusal=False)
    elif (other := "".join(nib.aff2axcodes(qform))) != orientation:
        yield _contradiction("orientations", other, orientation, "qform")
    elif not is_same_grid(header["dim"][1:4], affine, qform):
        distance_mm = grid_distance_mm(header["dim"][1:4], affine, qform)
        text = f"qform and sform place the scan up to {distance_mm:.3g} mm apart; the sform is used"
        yield Finding(text, is_refusal=False)
    yield from check_affine(affine)


def _read_affine(read: Callable[[], NDArray[np.float64]]) -> NDArray[np.float64]:
    try:
        return read()
    except (ValueError, ArithmeticError, nib.spatialimages.HeaderDataError):
        return np.full((4, 4), np.nan)


def _is_degenerate(affine: NDArray[np.float64]) -> bool:
    """Whether an affine has no inverse; the orientation of an axis without length is NaN."""
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        return True
    return bool(np.isnan(nib.io_orientation(affine)).any())


def _contradiction(what: str, first: str, second: str, field: str) -> Finding:
    return Finding(
        f"the {what} {first} ({field}) and {second} (sform) contradict each other; expected equal ones; rewrite the "
        "header's geometry"
    )


def _join(edges_mm: NDArray[np.float64]) -> str:
    return "×".join(f"{edge:.6g}" for edge in edges_mm) + " mm"
