"""Volumes: geometry against nibabel. Damaged files are rows 12 to 19 of `tests/faults`."""

import gzip
import itertools
import re
import struct

import nibabel as nib
import numpy as np
import pytest

from components.ct.nifti import read_nifti, write_deidentified
from components.ct.volume import read_volume, write_on_file_grid
from components.runtime.errors import VolumeError

ALL_ORIENTATIONS = [
    "".join(codes)
    for codes in itertools.product("LRAPIS", repeat=3)
    if all(len(set(codes) & set(pair)) == 1 for pair in ("LR", "AP", "IS"))
]
RNG = np.random.default_rng(0)
VOXELS = RNG.integers(-1024, 1500, (5, 6, 7)).astype(np.int16)


def affine_of(orientation: str) -> np.ndarray:
    """An affine of 0.7×0.8×3 mm voxels in an orientation."""
    codes = nib.orientations.axcodes2ornt(orientation), nib.orientations.axcodes2ornt("RAS")
    to_ras = nib.orientations.ornt_transform(*codes)
    affine = np.diag([0.7, 0.8, 3, 1]) @ nib.orientations.inv_ornt_aff(to_ras, VOXELS.shape)
    affine[:3, 3] += [-100, 20, 5]
    return affine


def oblique() -> np.ndarray:
    angle = np.deg2rad(20)
    turn = [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    return nib.affines.from_matvec(turn @ np.diag([-0.7, -0.8, 3]), [100, 120, -300])


@pytest.fixture
def scan(tmp_path):
    """A valid `.nii.gz`."""
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(VOXELS, affine_of("LAS")), path)
    return path


def with_header(path, **fields):
    """Rewrite `path` with header fields that nibabel would not accept."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    kind, size = (nib.Nifti2Header, 540) if content[0] == 540 % 256 else (nib.Nifti1Header, 348)
    header = kind(bytes(content[:size]), check=False)
    for name, value in fields.items():
        header[name] = value
    content[:size] = header.binaryblock
    path.write_bytes(gzip.compress(bytes(content)))
    return path


@pytest.mark.parametrize("affine", [*map(affine_of, ALL_ORIENTATIONS), oblique()], ids=[*ALL_ORIENTATIONS, "oblique"])
def test_every_orientation_matches_nibabel_and_is_written_on_its_own_grid(tmp_path, affine):
    assert len(ALL_ORIENTATIONS) == 48
    image = nib.Nifti1Image(VOXELS, affine)
    nib.save(image, tmp_path / "scan.nii.gz")
    canonical = nib.as_closest_canonical(nib.load(tmp_path / "scan.nii.gz"))
    volume = read_volume(tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(volume.voxels, np.asanyarray(canonical.dataobj))
    assert volume.spacing_mm == pytest.approx(canonical.header.get_zooms())
    assert volume.file_grid.orientation == "".join(nib.aff2axcodes(affine))
    mask = (volume.voxels > 0).astype(np.uint8)
    write_on_file_grid(tmp_path / "mask.nii.gz", mask, volume.file_grid)
    written = nib.load(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(written.dataobj), (VOXELS > 0).astype(np.uint8))
    np.testing.assert_array_equal(written.affine, nib.load(tmp_path / "scan.nii.gz").affine)


def sheared(degrees: float) -> np.ndarray:
    """An affine whose slices move back by a gantry tilt."""
    affine = np.diag([-0.8, 0.8, 3, 1])
    affine[1, 2] = 3 * np.tan(np.deg2rad(degrees))
    return affine


def turned(degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    turn = [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    return nib.affines.from_matvec(turn @ np.diag([-0.8, 0.8, 0.8]))


MIRRORED = {"qform_code": 1, "quatern_b": 1, "quatern_c": 0, "quatern_d": 0}  # RPS; the sform is LAS
BOX = np.diag([-0.8, 0.8, 3, 1])


@pytest.mark.parametrize(
    ("affine", "fields", "message"),
    [
        (sheared(20), {}, r"sheared by 20\.00 degrees"),
        (sheared(0.6), {}, r"sheared by 0\.60 degrees"),
        (BOX, {"srow_x": [1e6, 1e6, 0, 0], "srow_y": [0, 1e-10, 0, 0]}, "affine is not finite or not invertible"),
        (BOX, MIRRORED, r"orientations RPS \(qform\) and LAS \(sform\)"),
        (BOX, {"pixdim": [1, 0.7, 0.7, 5, 0, 0, 0, 0]}, r"0\.7×0\.7×5 mm \(pixdim\) and 0\.8×0\.8×3 mm \(sform\)"),
        (BOX, {"pixdim": [1, 0.8, 0.8, 3.1, 0, 0, 0, 0]}, r"0\.8×0\.8×3\.1 mm \(pixdim\)"),
        (BOX, {"xyzt_units": 1}, "in meters"),
        (BOX, {"xyzt_units": 3 | 8}, "in micrometers"),
        (np.diag([-0.8, 1.6, 3, 1]), {}, r"0\.8×1\.6 mm, a ratio of 2;"),
        (np.diag([-1, 0.8, 3, 1]), {}, r"1×0\.8 mm, a ratio of 1\.25;.* 1\.2,"),
    ],
)
def test_a_grid_with_a_doubtful_volume_or_orientation_is_refused(scan, affine, fields, message):
    nib.save(nib.Nifti1Image(VOXELS, affine), scan)
    with pytest.raises(VolumeError, match=rf"scan\.nii\.gz: .*{message}"):
        read_nifti(with_header(scan, **fields))


@pytest.mark.parametrize(
    ("affine", "fields", "note"),
    [
        (BOX, {"sform_code": 0}, r"no orientation \(qform_code = sform_code = 0\); read as LAS"),
        (BOX, {"qform_code": 1, "quatern_c": 1, "qoffset_y": 42}, r"up to 42 mm apart; the sform is used"),
        (BOX, {"qform_code": 1, "quatern_b": 9}, "qform is not finite or not invertible; the sform is used"),
        (BOX, {"qform_code": 1, "qoffset_x": np.nan}, "qform is not finite or not invertible; the sform is used"),
        (turned(35), {}, "tilted by 35 degrees"),
        (turned(30.0001), {}, r"tilted by 30\.0001 degrees"),
        (np.diag([-5.0004, 5.0004, 3, 1]), {}, r"rows are 5\.0004 mm apart; expected 0\.2 to 5 mm"),
        (np.diag([-0.8, 0.8, 10.5, 1]), {}, r"slices are 10\.5 mm apart; expected 0\.2 to 10 mm"),
    ],
)
def test_a_recoverable_doubt_about_a_grid_is_a_note(scan, affine, fields, note):
    nib.save(nib.Nifti1Image(VOXELS, affine), scan)
    assert re.search(note, "; ".join(read_volume(with_header(scan, **fields)).notes))


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("sform_code", [0, 1])
@pytest.mark.parametrize(
    ("qfac", "quaternion"),
    [
        (0, (0, 1, 0)),  # nifti1.h: 0 counts as 1
        (np.nan, (0, 1, 0)),
        (3, (0, 1, 0)),
        (1, (0, 1.0001, 0)),
        (-1, (0.034878, 0.999392, 6e-6)),  # 1 + 4e-7, of a rotation rounded to six decimals
    ],
)
def test_a_qform_is_read_with_any_qfac_and_a_rounded_quaternion(tmp_path, kind, sform_code, qfac, quaternion):
    b, c, d = np.array(quaternion) / max(1, np.linalg.norm(quaternion))  # as nifti_quatern_to_mat44 (nifti1_io.c) does
    turn = nib.quaternions.quat2mat([np.sqrt(max(0, 1 - b * b - c * c - d * d)), b, c, d])
    affine = nib.affines.from_matvec(turn @ np.diag([0.8, 0.8, -3 if qfac == -1 else 3]), [1, 2, 3])
    image = kind(VOXELS, affine)
    image.set_sform(affine, sform_code)
    image.set_qform(affine, 1)
    nib.save(image, tmp_path / "scan.nii.gz")
    fields = dict(zip(("quatern_b", "quatern_c", "quatern_d"), quaternion, strict=True))
    stored = read_nifti(with_header(tmp_path / "scan.nii.gz", pixdim=[qfac, 0.8, 0.8, 3, 1, 1, 1, 1], **fields))
    assert stored.notes == ()
    np.testing.assert_allclose(stored.header.get_qform(), affine, atol=1e-5)
    write_deidentified(tmp_path / "copy.nii.gz", stored)
    np.testing.assert_allclose(nib.load(tmp_path / "copy.nii.gz").affine, affine, atol=1e-5)


def test_an_unset_qfac_has_the_sign_of_the_sform(scan):
    affine = nib.load(scan).affine  # LAS
    stored = read_nifti(with_header(scan, qform_code=1, pixdim=[0, 0.7, 0.8, 3, 1, 1, 1, 1]))
    assert stored.notes == ()
    np.testing.assert_allclose(stored.header.get_qform(), affine, atol=1e-5)


@pytest.mark.parametrize("unit", [0, 2])
def test_a_usual_header_has_no_note_and_may_lack_the_unit(scan, unit):
    assert read_volume(with_header(scan, xyzt_units=unit)).notes == ()


def test_a_voxel_has_the_volume_of_the_affine_and_only_the_sform_has_its_shear(scan, tmp_path):
    slices = np.zeros((300, 300, 100), np.uint8)
    nib.save(nib.Nifti1Image(slices, sheared(0.4)), scan)
    volume = read_volume(scan)
    assert volume.voxel_ml == pytest.approx(0.8 * 0.8 * 3 / 1000, rel=1e-7)
    write_on_file_grid(tmp_path / "mask.nii.gz", volume.voxels, volume.file_grid)
    written = nib.load(tmp_path / "mask.nii.gz")
    np.testing.assert_allclose(written.affine, sheared(0.4), atol=1e-6)
    assert (int(written.header["qform_code"]), int(written.header["sform_code"])) == (0, 1)


def test_a_scan_without_orientation_gets_a_mask_without_one(scan, tmp_path):
    nib.save(nib.Nifti1Image(VOXELS, BOX), scan)
    volume = read_volume(with_header(scan, sform_code=0))
    write_on_file_grid(tmp_path / "mask.nii.gz", volume.voxels, volume.file_grid)
    written = nib.load(tmp_path / "mask.nii.gz")
    assert (int(written.header["qform_code"]), int(written.header["sform_code"])) == (0, 0)
    np.testing.assert_allclose(written.affine, nib.load(scan).affine)
    np.testing.assert_array_equal(np.asarray(written.dataobj), VOXELS)


def test_a_scan_with_further_axes_of_length_1_gets_a_mask_of_its_shape(tmp_path):
    nib.save(nib.Nifti1Image(VOXELS[..., None], BOX), tmp_path / "scan.nii.gz")
    volume = read_volume(tmp_path / "scan.nii.gz")
    assert volume.voxels.shape == VOXELS.shape
    write_on_file_grid(tmp_path / "mask.nii.gz", volume.voxels, volume.file_grid)
    written = nib.load(tmp_path / "mask.nii.gz")
    assert written.shape == (*VOXELS.shape, 1)
    np.testing.assert_array_equal(np.asarray(written.dataobj)[..., 0], VOXELS)


def test_a_plain_file_named_gz_is_read(tmp_path, scan):
    (tmp_path / "plain.nii.gz").write_bytes(gzip.decompress(scan.read_bytes()))
    np.testing.assert_array_equal(read_volume(tmp_path / "plain.nii.gz").voxels, read_volume(scan).voxels)


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<u2", ">f4", "<f8", "i1", "u1", "<i4", "<i8"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_every_scalar_type_and_byte_order_matches_nibabel(tmp_path, dtype, kind, suffix):
    voxels = RNG.integers(0, 100, (3, 4, 5)).astype(dtype)
    header = kind.header_class(endianness=dtype[0] if dtype[0] in "<>" else "<")
    header.set_data_dtype(voxels.dtype)
    nib.save(kind(voxels, np.eye(4), header), tmp_path / f"a{suffix}")
    volume = read_volume(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(volume.voxels, voxels)
    assert volume.voxels.dtype.isnative


@pytest.mark.parametrize(
    ("slope", "intercept", "expected"),
    [
        (2, -1024, VOXELS * 2.0 - 1024),
        (0, 7, VOXELS),
        (0, np.nan, VOXELS),
        (np.nan, np.nan, VOXELS),  # as nibabel's header in memory
        (np.nan, 7, VOXELS),
    ],
)
def test_slope_and_intercept_are_applied_unless_the_slope_is_zero_or_nan(scan, slope, intercept, expected):
    with_header(scan, scl_slope=slope, scl_inter=intercept)
    np.testing.assert_array_equal(read_volume(scan).voxels[::-1], expected)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_zeros_may_follow_the_voxels_but_nothing_else(tmp_path, scan, name):
    content = gzip.decompress(scan.read_bytes()) + bytes(1 << 16)
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    np.testing.assert_array_equal(read_volume(path).voxels, read_volume(scan).voxels)
    for more in (b"\1", b"\0"):  # no padding, and too much
        scan.write_bytes(gzip.compress(content + more))
        with pytest.raises(VolumeError, match=r"scan\.nii\.gz: .*more bytes than the [\d,]+"):
            read_volume(scan)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"srow_x": [0, 0, 0, 0]}, "affine"),
        ({"sform_code": 0, "qform_code": 1, "quatern_b": 9}, "affine"),
        ({"vox_offset": float("nan")}, "byte nan"),
        ({"vox_offset": 0}, "byte 0.*352"),
        ({"vox_offset": 1e30}, "byte 1e"),
        ({"magic": b"ni1"}, "two files"),
        ({"sizeof_hdr": 1}, "not a NIfTI file"),
        ({"scl_slope": 3e38}, "NaN or infinite"),
    ],
)
def test_an_invalid_header_is_rejected(scan, fields, message):
    with pytest.raises(VolumeError, match=rf"scan\.nii\.gz: .*{message}"):
        read_volume(with_header(scan, **fields))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><title>503</title>", "HTML"),
        (b"PK\x03\x04", "zip archive: unpack"),
        (b"", "starts with nothing"),
        (bytes(128) + b"DICM", "folder of its series"),
    ],
)
def test_a_file_of_another_kind_is_described_by_its_first_bytes(tmp_path, content, message):
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(content)
    with pytest.raises(VolumeError, match=rf"scan\.nii\.gz: .*{message}"):
        read_volume(path)


def test_a_missing_file_and_a_folder_are_rejected(tmp_path):
    with pytest.raises(VolumeError, match=r"nothing\.nii: no such file"):
        read_volume(tmp_path / "nothing.nii")
    with pytest.raises(VolumeError, match=f"{tmp_path}: "):
        read_volume(tmp_path)


def write_personal(path):
    """Write a scan whose header holds a name in every text field."""
    image = nib.Nifti1Image(VOXELS, oblique())
    for field in ("descrip", "aux_file", "db_name", "intent_name"):
        image.header[field] = b"DOE^JANE"
    image.header["data_type"] = b"JANE"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"DOE^JANE 1950-01-01"))
    nib.save(image, path)
    return path


def test_a_copy_keeps_voxels_and_grid_without_the_patients_name(tmp_path):
    source = write_personal(tmp_path / "in.nii")
    assert b"JANE" in source.read_bytes()
    write_deidentified(tmp_path / "out.nii.gz", read_nifti(source))
    assert b"JANE" not in gzip.decompress((tmp_path / "out.nii.gz").read_bytes())
    before, after = nib.load(source), nib.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(after.dataobj), VOXELS)
    np.testing.assert_array_equal(after.affine, before.affine)
    np.testing.assert_array_equal(after.get_qform(), before.get_qform())
    assert after.header.get_zooms() == before.header.get_zooms()
    assert after.get_data_dtype() == before.get_data_dtype()


def test_a_copy_keeps_the_scaling_and_the_byte_order(tmp_path):
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    nib.save(nib.Nifti1Image(VOXELS.astype(">i2"), np.eye(4), header), tmp_path / "in.nii.gz")
    with_header_big = bytearray(gzip.decompress((tmp_path / "in.nii.gz").read_bytes()))
    with_header_big[112:120] = struct.pack(">ff", 0.5, 3)
    (tmp_path / "in.nii").write_bytes(with_header_big)
    write_deidentified(tmp_path / "out.nii.gz", read_nifti(tmp_path / "in.nii"))
    np.testing.assert_array_equal(read_volume(tmp_path / "out.nii.gz").voxels, VOXELS * 0.5 + 3)
    assert gzip.decompress((tmp_path / "out.nii.gz").read_bytes())[352:] == bytes(with_header_big[352:])


def test_equal_content_gives_equal_bytes_under_any_file_name(tmp_path, scan):
    plain = tmp_path / "other name.nii"
    plain.write_bytes(gzip.decompress(scan.read_bytes()))
    write_deidentified(tmp_path / "1.nii.gz", read_nifti(scan))
    write_deidentified(tmp_path / "2.nii.gz", read_nifti(plain))
    assert (tmp_path / "1.nii.gz").read_bytes() == (tmp_path / "2.nii.gz").read_bytes()
