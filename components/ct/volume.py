"""3-D volumes in NIfTI files: strict reading into one orientation, and writing back on the file's own grid.

nibabel knows the header's fields and the geometry. It does not check a gzip stream's CRC, and accepts NaN
affines, infinite slopes and headers that declare more than the file can hold, so the bytes are read here.
"""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

import nibabel as nib
import numpy as np
from isal import igzip
from isal.igzip_lib import IsalError
from numpy.typing import NDArray

from components.ct.atomic import written_whole
from components.ct.errors import VolumeError

MAX_VOLUME_BYTES = 8 << 30  # a 2048×2048×1024 float16 volume: far above any CT, far below a server's memory
_DEFLATE_MAX_RATIO = 1032  # a deflate stream cannot expand further (zlib, "Technical Details")
_GZIP_MAGIC = b"\x1f\x8b"
_HEADERS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
_SCALARS = "biuf"
_CANONICAL = np.array([[0, 1], [1, 1], [2, 1]])  # nibabel's orientation array for RAS+


@dataclass(frozen=True)
class FileGrid:
    """The grid on which a file stores its voxels: `shape` in file order and the (4, 4) `affine` to mm."""

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @property
    def orientation(self) -> str:
        """Where the file's axes point, such as `LAS`: the closest anatomical direction of each."""
        return "".join(nib.aff2axcodes(self.affine))


@dataclass(frozen=True)
class Volume:
    """A volume in memory.

    Attributes:
        voxels: (x, y, z) array in RAS+ or, for an oblique scan, the axis order and flips closest to it.
        spacing_mm: voxel size along x, y and z.
        file_grid: the grid of the file it came from, where results go back to.
        stored_dtype: the type of the numbers in the file, before scaling.
    """

    voxels: NDArray
    spacing_mm: tuple[float, float, float]
    file_grid: FileGrid
    stored_dtype: np.dtype

    @property
    def voxel_ml(self) -> float:
        """The volume of one voxel in millilitres."""
        return float(np.prod(self.spacing_mm)) / 1000


def read_volume(path: Path) -> Volume:
    """Read a `.nii` or `.nii.gz` file whole, its CRC checked, slope and intercept applied, turned to RAS+.

    Integers without scaling keep their type; scaled values become float32.

    Raises:
        VolumeError: the file is missing, damaged, no scalar 3-D NIfTI, or its header makes no sense.
    """
    try:
        with _open_stream(path) as stream:
            header = _read_header(path, stream)
            stored = _read_voxels(path, stream, header)
    except FileNotFoundError:
        raise VolumeError(f"{path}: no such file") from None
    except (EOFError, igzip.BadGzipFile, IsalError) as error:
        raise VolumeError(f"{path}: damaged gzip stream ({error}); fetch or export the file again") from error
    except OSError as error:
        raise VolumeError(f"{path}: cannot be read ({error.strerror or error})") from error
    affine = header.get_best_affine()
    orientation = nib.io_orientation(affine)
    voxels = nib.apply_orientation(_scaled(path, stored, header), orientation)
    in_file_order = nib.affines.voxel_sizes(affine)
    spacing = [0.0, 0.0, 0.0]
    for file_axis, (canonical_axis, _) in enumerate(orientation):
        spacing[int(canonical_axis)] = float(in_file_order[file_axis])
    return Volume(voxels, (spacing[0], spacing[1], spacing[2]), FileGrid(stored.shape, affine), stored.dtype)


def write_on_file_grid(path: Path, voxels: NDArray, file_grid: FileGrid) -> None:
    """Write RAS+ `voxels` (x, y, z) in the axis order, shape and affine of `file_grid`, whole or not at all.

    The header holds geometry alone: no free text, no extensions.
    """
    to_file = nib.orientations.ornt_transform(_CANONICAL, nib.io_orientation(file_grid.affine))
    stored = np.asfortranarray(nib.apply_orientation(voxels, to_file))
    if stored.shape != file_grid.shape:
        raise ValueError(f"{path}: voxels {stored.shape} do not fit the file's grid {file_grid.shape}")
    image = nib.Nifti1Image(stored, file_grid.affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(file_grid.affine, code=1)
    image.set_sform(file_grid.affine, code=1)
    content = image.to_bytes()
    if path.name.endswith(".gz"):
        # No time stamp: the same voxels give the same bytes.
        content = igzip.compress(content, compresslevel=1, mtime=0)
    with written_whole(path) as temporary:
        temporary.write_bytes(content)


def _open_stream(path: Path) -> BinaryIO:
    start = _first_bytes(path)
    if start.startswith(_GZIP_MAGIC):
        return igzip.open(path, "rb")
    if path.name.endswith(".gz"):
        found = "an HTML page" if start.lstrip()[:1] == b"<" else f"bytes {start[:4].hex(' ')}" if start else "nothing"
        raise VolumeError(f"{path}: not a gzip file: it starts with {found}; was the download an error page?")
    return path.open("rb")


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)


def _read_header(path: Path, stream: BinaryIO) -> nib.Nifti1Header:
    start = stream.read(4)
    size = next((n for n in _HEADERS if start in (n.to_bytes(4, "little"), n.to_bytes(4, "big"))), None)
    if size is None:
        raise VolumeError(f"{path}: not a NIfTI file; expected .nii or .nii.gz (NIfTI-1 or NIfTI-2)")
    block = start + stream.read(size - 4)
    if len(block) < size:
        raise VolumeError(f"{path}: ends inside its header after {len(block)} of {size} bytes")
    header = _HEADERS[size](block, check=False)
    if not bytes(header["magic"]).startswith(b"n+"):
        raise VolumeError(f"{path}: header and voxels are in two files (.hdr/.img); convert them to one .nii.gz")
    _check_geometry(path, header)
    _check_byte_count(path, header)
    return header


def _check_geometry(path: Path, header: nib.Nifti1Header) -> None:
    axes = int(header["dim"][0])
    dims = [int(n) for n in header["dim"][1 : 1 + max(0, min(axes, 7))]]
    if axes < 3 or len(dims) != axes or any(n != 1 for n in dims[3:]):
        raise VolumeError(f"{path}: has dimensions {dims}; expected one 3-D volume (x, y, z)")
    if min(dims) < 1:
        raise VolumeError(f"{path}: declares dimensions {dims[:3]}; every one must be at least 1")
    dtype = _stored_dtype(header)
    if dtype is None or dtype.kind not in _SCALARS:
        label = header.get_value_label("datatype") if dtype is not None else int(header["datatype"])
        raise VolumeError(f"{path}: stores {label} voxels; expected integers or real numbers, one for each voxel")
    spacing = header["pixdim"][1:4]
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise VolumeError(f"{path}: voxel spacing {spacing.tolist()} mm; expected finite numbers above 0")
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not np.isfinite([slope, intercept]).all():
        raise VolumeError(f"{path}: scaling slope {slope} and intercept {intercept}; expected finite numbers")
    affine = _best_affine(header)
    if affine is None or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise VolumeError(f"{path}: its affine is not finite or not invertible; write the header's geometry anew")


def _check_byte_count(path: Path, header: nib.Nifti1Header) -> None:
    declared = _voxel_bytes(header) + int(header["vox_offset"])
    on_disk = path.stat().st_size
    most = on_disk * _DEFLATE_MAX_RATIO if _first_bytes(path).startswith(_GZIP_MAGIC) else on_disk
    if declared > min(most, MAX_VOLUME_BYTES):
        raise VolumeError(
            f"{path}: declares {declared / 1e6:,.1f} MB of voxels, more than its {on_disk / 1e6:,.3f} MB can hold "
            f"or than the limit of {MAX_VOLUME_BYTES / 1e6:,.0f} MB; the file is truncated or its header is wrong"
        )


def _read_voxels(path: Path, stream: BinaryIO, header: nib.Nifti1Header) -> NDArray:
    header_size = header.sizeof_hdr
    stream.read(max(0, int(header["vox_offset"]) - header_size))
    buffer = np.empty(_voxel_bytes(header), np.uint8)
    view, filled = buffer.data, 0
    while filled < len(buffer):
        count = stream.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            raise VolumeError(f"{path}: truncated: holds {filled:,} of the {len(buffer):,} bytes of voxels declared")
        filled += count
    # Reading on to the end is what makes the stream compare its CRC and length.
    if stream.read(1):
        raise VolumeError(f"{path}: holds more bytes than the {len(buffer):,} of voxels that its header declares")
    shape = tuple(int(n) for n in header["dim"][1:4])
    return buffer.view(header.get_data_dtype()).reshape(shape, order="F")


def _scaled(path: Path, stored: NDArray, header: nib.Nifti1Header) -> NDArray:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    native = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    if native.dtype.kind == "f":
        broken = native.size - int(np.isfinite(native).sum())
        if broken:
            raise VolumeError(f"{path}: {broken:,} voxels are NaN or infinite; expected a finite number in each")
    if slope == 0 or (slope, intercept) == (1.0, 0.0):  # slope 0 means "not scaled" (NIfTI-1 standard)
        return native
    return native.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def _best_affine(header: nib.Nifti1Header) -> NDArray | None:
    try:
        return header.get_best_affine()
    except (ValueError, ArithmeticError, nib.spatialimages.HeaderDataError):
        return None


def _stored_dtype(header: nib.Nifti1Header) -> np.dtype | None:
    try:
        return header.get_data_dtype()
    except (KeyError, nib.spatialimages.HeaderDataError):
        return None


def _voxel_bytes(header: nib.Nifti1Header) -> int:
    return prod(int(n) for n in header["dim"][1:4]) * int(header.get_data_dtype().itemsize)
