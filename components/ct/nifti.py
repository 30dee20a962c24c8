"""NIfTI files as stored: strict reading of header and voxels, and writing without personal data.

nibabel interprets the header and its geometry. Bytes are read here because nibabel does not check a gzip stream's
CRC, and accepts NaN affines, infinite slopes and headers that declare more voxels than the file can hold.
"""

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

import nibabel as nib
import numpy as np
from isal import igzip
from isal.igzip_lib import IsalError
from numpy.typing import NDArray

from components.ct.geometry import apply_rules, check_header
from components.ct.scan_folder import is_dicom_file
from components.runtime.errors import VolumeError
from components.runtime.files import atomic_write

MAX_VOLUME_BYTES = 8 << 30  # 2048×2048×1024 float16: far above any CT, far below a server's memory
_DEFLATE_MAX_RATIO = 1032  # the limit of deflate (zlib, "Technical Details")
_BLOCK_BYTES = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_EXTENDER_BYTES = 4  # after the header: flags for extensions
_HEADERS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
_FORMATS = {struct.pack(f"{order}i", size): (size, order) for size in _HEADERS for order in "<>"}  # by first bytes
_SCALAR_KINDS = "biuf"
# Values and geometry; all other fields may hold free text.
_KEPT_FIELDS = (
    *("datatype", "bitpix", "scl_slope", "scl_inter", "qform_code", "sform_code"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)
_QUATERNION = ("quatern_b", "quatern_c", "quatern_d")
_MAX_QUATERNION = 1.0005  # the length of one that is rounded to three decimals
_MAX_PADDING = 1 << 16  # bytes: some writers fill a block with zeros
_SPATIAL_UNITS = 0b111  # the bits of xyzt_units for the unit of length


@dataclass(frozen=True)
class NiftiFile:
    """The content of a NIfTI file."""

    path: Path  # for messages
    header: nib.Nifti1Header
    voxels: NDArray  # (i, j, k) in file order, dtype and byte order, before scaling
    notes: tuple[str, ...] = ()  # on doubtful geometry

    @property
    def shape(self) -> tuple[int, ...]:
        """The declared shape: that of the voxels, which may be followed by ones."""
        return tuple(int(n) for n in self.header["dim"][1 : 1 + int(self.header["dim"][0])])

    def scaled_voxels(self) -> NDArray:
        """Return the voxels with slope and intercept applied: float32, or their own dtype if unscaled.

        Raises:
            VolumeError: a voxel is NaN or infinite.
        """
        slope, intercept = float(self.header["scl_slope"]), float(self.header["scl_inter"])
        values = self.voxels.astype(self.voxels.dtype.newbyteorder("="), copy=False)
        if (slope, intercept) != (1.0, 0.0):
            with np.errstate(over="ignore", invalid="ignore"):  # reported below
                values = values.astype(np.float32) * np.float32(slope) + np.float32(intercept)
        if values.dtype.kind == "f":
            non_finite = values.size - int(np.count_nonzero(np.isfinite(values)))
            if non_finite:
                raise VolumeError(f"{self.path}: {non_finite:,} voxels are NaN or infinite; expected finite values")
        return values


def read_nifti(path: Path) -> NiftiFile:
    """Read a `.nii` or `.nii.gz` file, its CRC checked.

    Raises:
        VolumeError: the file is missing, damaged, not a scalar 3-D NIfTI, or its header is invalid.
    """
    try:
        with _open_stream(path) as stream:
            header = _read_header(path, stream)
            notes = apply_rules(path, check_header(header))
            _check_byte_count(path, header)
            return NiftiFile(path, header, _read_voxels(path, stream, header), notes)
    except FileNotFoundError:
        raise VolumeError(f"{path}: no such file") from None
    except (EOFError, igzip.BadGzipFile, IsalError) as error:  # type: ignore[misc]
        raise VolumeError(f"{path}: damaged gzip stream ({error}); download or export the file again") from error
    except OSError as error:
        raise VolumeError(f"{path}: cannot be read ({error.strerror or error})") from error


def write_deidentified(path: Path, stored: NiftiFile) -> None:
    """Write the stored voxels, geometry and scaling to a `.nii.gz`, without free text or extensions.

    The gzip header holds neither name nor time: equal content gives equal bytes.
    """
    header = type(stored.header)(endianness=stored.header.endianness)
    for field in _KEPT_FIELDS:
        header[field] = stored.header[field]
    header["dim"] = [3, *stored.voxels.shape, 1, 1, 1, 1]
    header["pixdim"] = [*stored.header["pixdim"][:4], 0, 0, 0, 0]
    header["xyzt_units"] = int(stored.header["xyzt_units"]) & _SPATIAL_UNITS
    header["vox_offset"] = header.sizeof_hdr + _EXTENDER_BYTES
    voxels = np.asfortranarray(stored.voxels).reshape(-1, order="F").view(np.uint8)
    with (
        atomic_write(path) as temporary,
        temporary.open("wb") as file,
        igzip.IGzipFile(filename="", fileobj=file, mode="wb", compresslevel=1, mtime=0) as stream,
    ):
        stream.write(header.binaryblock + bytes(_EXTENDER_BYTES))
        for start in range(0, len(voxels), _BLOCK_BYTES):
            stream.write(voxels[start : start + _BLOCK_BYTES].data)


def mask_like(stored: NiftiFile, mask: NDArray[np.uint8]) -> NiftiFile:
    """Return a file on the same grid with the (i, j, k) 0/1 `mask` as its voxels."""
    header = stored.header.copy()
    header.set_data_dtype(np.uint8)
    header["scl_slope"], header["scl_inter"] = 1, 0
    return NiftiFile(stored.path, header, mask, stored.notes)


def _open_stream(path: Path) -> BinaryIO:
    """Open a file by its content; names such as `.nii.gz` may be wrong."""
    start = _first_bytes(path)
    if start.startswith(_GZIP_MAGIC):
        return igzip.open(path, "rb")
    if start[:4] not in _FORMATS:
        raise VolumeError(f"{path}: not a NIfTI file: it {_describe(path, start)}; expected .nii or .nii.gz")
    return path.open("rb")


def _describe(path: Path, start: bytes) -> str:
    if is_dicom_file(path):
        return "is a DICOM file: give the folder of its series"
    if start.startswith(b"PK"):
        return f"starts with {start[:4].hex(' ')}, a zip archive: unpack it"
    if start.lstrip().startswith(b"<"):
        return "starts with an HTML page, perhaps the error page of a download"
    return f"starts with bytes {start[:4].hex(' ')}" if start else "starts with nothing"


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)


def _read_header(path: Path, stream: BinaryIO) -> nib.Nifti1Header:
    start = stream.read(4)
    if start not in _FORMATS:
        raise VolumeError(f"{path}: not a NIfTI file; expected .nii or .nii.gz (NIfTI-1 or NIfTI-2)")
    size, endianness = _FORMATS[start]
    block = start + stream.read(size - 4)
    if len(block) < size:
        raise VolumeError(f"{path}: truncated after {len(block)} of {size} header bytes; export it again")
    header = _HEADERS[size](block, endianness=endianness, check=False)
    if not bytes(header["magic"]).startswith(b"n+"):
        raise VolumeError(f"{path}: header and voxels in two files (.hdr/.img); convert them to one .nii.gz")
    _normalize(header)
    _check_voxel_type(path, header)
    return header


def _normalize(header: nib.Nifti1Header) -> None:
    """Rewrite what nifti1_io.c tolerates and nibabel does not: a qfac of 0, rounded quaternions, a NaN slope."""
    if abs(header["pixdim"][0]) != 1:  # the sign of the third axis; unset beside an sform, it is the sform's
        is_mirrored = header["sform_code"] > 0 and np.linalg.det(header.get_sform()[:3, :3]) < 0
        header["pixdim"][0] = -1 if is_mirrored else 1
    quaternion = np.array([header[name] for name in _QUATERNION], float)
    if 1 < (length := np.linalg.norm(quaternion)) <= _MAX_QUATERNION:
        for name, value in zip(_QUATERNION, quaternion / length, strict=True):
            header[name] = value
    if header["scl_slope"] == 0 or np.isnan(header["scl_slope"]):
        header["scl_slope"], header["scl_inter"] = 1, 0


def _check_voxel_type(path: Path, header: nib.Nifti1Header) -> None:
    try:
        dtype = header.get_data_dtype()
        description = header.get_value_label("datatype")
    except (KeyError, nib.spatialimages.HeaderDataError):
        dtype, description = None, f"type {int(header['datatype'])}"
    if dtype is None or dtype.kind not in _SCALAR_KINDS:
        raise VolumeError(f"{path}: {description} voxels; expected one integer or real value per voxel")
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not np.isfinite([slope, intercept]).all():
        raise VolumeError(f"{path}: scaling slope {slope} and intercept {intercept}; expected finite numbers")


def _check_byte_count(path: Path, header: nib.Nifti1Header) -> None:
    offset, min_offset = float(header["vox_offset"]), header.sizeof_hdr + _EXTENDER_BYTES
    if not min_offset <= offset < MAX_VOLUME_BYTES:  # also catches NaN
        raise VolumeError(f"{path}: voxels start at byte {offset:g}; expected {min_offset} or later; export it again")
    declared = _voxel_bytes(header) + int(offset)
    file_bytes = path.stat().st_size
    capacity = file_bytes * _DEFLATE_MAX_RATIO if _first_bytes(path).startswith(_GZIP_MAGIC) else file_bytes
    if declared > min(capacity, MAX_VOLUME_BYTES):
        raise VolumeError(
            f"{path}: declares {declared / 1e6:,.1f} MB of voxels; expected no more than its {file_bytes / 1e6:,.3f} "
            f"MB can hold and {MAX_VOLUME_BYTES / 1e6:,.0f} MB; the file is truncated or its header is wrong"
        )


def _read_voxels(path: Path, stream: BinaryIO, header: nib.Nifti1Header) -> NDArray:
    skip_bytes = int(header["vox_offset"]) - header.sizeof_hdr
    while skip_bytes > 0 and (count := len(stream.read(min(skip_bytes, _BLOCK_BYTES)))):
        skip_bytes -= count
    buffer = np.empty(_voxel_bytes(header), np.uint8)
    view, offset = buffer.data, 0
    while offset < len(buffer):
        # Blocks that fit the CPU cache are a third faster than one read.
        count = stream.readinto(view[offset : offset + _BLOCK_BYTES])  # type: ignore[attr-defined]
        if not count:
            raise VolumeError(f"{path}: truncated: {offset:,} of {len(buffer):,} declared voxel bytes; export it again")
        offset += count
    # The gzip stream checks its CRC and length only when read to the end.
    padding = 0
    while tail := stream.read(_BLOCK_BYTES):
        padding += len(tail)
        if padding > _MAX_PADDING or tail.strip(b"\0"):
            raise VolumeError(f"{path}: holds more bytes than the {len(buffer):,} voxel bytes that its header declares")
    shape = tuple(int(n) for n in header["dim"][1:4])
    return buffer.view(header.get_data_dtype()).reshape(shape, order="F")


def _voxel_bytes(header: nib.Nifti1Header) -> int:
    return prod(int(n) for n in header["dim"][1:4]) * int(header.get_data_dtype().itemsize)
