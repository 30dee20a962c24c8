"""DICOM series as volumes."""

import nibabel as nib
import numpy as np
import pytest

from components.ct.dicom import read_dicom_series
from components.ct.volume import read_volume, write_on_file_grid
from components.runtime.errors import VolumeError
from tests.ingest.dicom_series import AXIAL, write_series

HU = np.random.default_rng(0).integers(-1024, 1500, (6, 4, 3))  # slices, rows, columns


def test_voxels_are_hu_along_the_patients_axes(tmp_path):
    volume = read_dicom_series(write_series(tmp_path / "s", HU))
    # Columns run left and rows posterior, both against RAS; slices run up.
    np.testing.assert_array_equal(volume.voxels, HU.transpose(2, 1, 0)[::-1, ::-1])
    assert volume.voxels.dtype == np.int16
    assert volume.spacing_mm == pytest.approx((0.8, 0.75, 2.5))
    assert volume.file_grid.orientation == "LPS"
    np.testing.assert_allclose(
        volume.file_grid.affine, [[-0.8, 0, 0, 10], [0, -0.75, 0, 20], [0, 0, 2.5, 30], [0, 0, 0, 1]]
    )


def test_slope_and_intercept_may_differ_by_slice(tmp_path):
    def change(k, item):
        item.RescaleSlope, item.RescaleIntercept = (2, -1000) if k == 1 else (1, -1024)

    volume = read_dicom_series(write_series(tmp_path / "s", np.zeros((3, 2, 2)), change=change))
    assert volume.voxels[0, 0].tolist() == [0, 1048, 0]  # 1024 is stored in each


@pytest.mark.parametrize(
    ("orientation", "axes"),
    [
        (AXIAL, "LPS"),
        ((-1, 0, 0, 0, 1, 0), "RPI"),
        ((0, 1, 0, 0, 0, -1), "PIR"),
        ((1, 0, 0, 0, 0, -1), "LIP"),
        ((np.cos(0.2), np.sin(0.2), 0, -np.sin(0.2), np.cos(0.2), 0), "LPS"),
    ],
)
def test_any_orientation_keeps_its_patient_coordinates(tmp_path, orientation, axes):
    write_series(tmp_path / "s", HU, orientation=orientation, step_mm=0.8)  # slices become pixels of the axial plane
    volume = read_dicom_series(tmp_path / "s")
    assert volume.file_grid.orientation == axes
    # The voxel at column 2, row 1, slice 3, by the formula of DICOM PS3.3 C.7.6.2.1.1, in LPS turned to RAS.
    across, down = np.array(orientation[:3]), np.array(orientation[3:])
    lps = np.array([-10, -20, 30]) + across * 0.8 * 2 + down * 0.75 * 1 + np.cross(across, down) * 0.8 * 3
    np.testing.assert_allclose(volume.file_grid.affine @ [2, 1, 3, 1], [-lps[0], -lps[1], lps[2], 1], atol=1e-5)
    turned = nib.apply_orientation(HU.transpose(2, 1, 0), nib.io_orientation(volume.file_grid.affine))
    np.testing.assert_array_equal(volume.voxels, turned)


def test_a_mask_is_written_on_the_scans_grid(tmp_path):
    volume = read_dicom_series(write_series(tmp_path / "s", HU))
    write_on_file_grid(tmp_path / "mask.nii.gz", (volume.voxels > 0).astype(np.uint8), volume.file_grid)
    mask = read_volume(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(mask.voxels, volume.voxels > 0)
    np.testing.assert_allclose(mask.file_grid.affine, volume.file_grid.affine, atol=1e-6)


@pytest.mark.parametrize(
    ("found", "text", "damaged"),
    [
        ("PixelSpacing is .*0,75.*0,8", b"0.75\\0.8", b"0,75\\0,8"),
        ("ImagePositionPatient does not parse", b"-10.0\\-20.0\\", b"-10.0\\later\\"),
        ("ImagePositionPatient is .*-10.0  -20.0", b"-10.0\\-20.0\\", b"-10.0  -20.0\\"),
        ("ImagePositionPatient is", b"-10.0\\-20.0\\", b"-10.0\\1e999\\"),
        ("ImageOrientationPatient does not parse", b"1.0\\0.0\\", b"1.0\\nan\\"),
        ("RescaleIntercept is -1,02.0;", b"-1024", b"-1,02"),
        ("NumberOfFrames is ,1;", b"(\x00\x08\x00IS\x02\x001 ", b"(\x00\x08\x00IS\x02\x00,1"),
    ],
)
def test_a_number_that_does_not_parse_is_an_error_of_its_file(tmp_path, recwarn, found, text, damaged):
    (file,) = write_series(tmp_path / "s", HU, change=lambda k, item: setattr(item, "NumberOfFrames", 1)).glob("*_2")
    assert text in file.read_bytes()
    file.write_bytes(file.read_bytes().replace(text, damaged))
    with pytest.raises(VolumeError, match=rf"s/\d+_2: {found}.* expected (a finite number|\d finite numbers)"):
        read_dicom_series(tmp_path / "s")
    assert not len(recwarn)


@pytest.mark.parametrize("padding", [63536, -2000])
def test_declared_padding_is_air_whether_signed_or_not(tmp_path, padding):
    def pad(k, item):
        item.PixelRepresentation = 0
        item.PixelData = np.array([[63536, 1064], [24, 1024]], "<u2").tobytes()
        item.add_new("PixelPaddingValue", "SS" if padding < 0 else "US", padding)

    volume = read_dicom_series(write_series(tmp_path / "s", np.zeros((2, 2, 2)), change=pad))
    assert volume.voxels[::-1, ::-1, 0].T.tolist() == [[-1024, 40], [-1000, 0]]


def strip_preamble(path, keep_meta):
    """Remove a file's preamble, and its meta information unless that is kept."""
    content = path.read_bytes()[132:]
    meta_bytes = 12 + int.from_bytes(content[8:12], "little")  # the group length, and what it counts
    path.write_bytes(content if keep_meta else content[meta_bytes:])


@pytest.mark.parametrize("keep_meta", [True, False])
def test_a_series_on_a_cd_is_read_also_without_preambles(tmp_path, keep_meta):
    expected = read_dicom_series(write_series(tmp_path / "plain", HU)).voxels
    series = write_series(tmp_path / "cd" / "DICOM" / "PA0" / "ST0" / "SE0", HU)
    for path in series.iterdir():
        strip_preamble(path, keep_meta)
    for name in ("autorun.inf", "DICOMDIR", "VIEWER/viewer.exe", "DICOM/PA0/readme.txt"):
        (tmp_path / "cd" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "cd" / name).write_bytes(b"MZ" * 100)
    np.testing.assert_array_equal(read_dicom_series(tmp_path / "cd").voxels, expected)
    write_series(series.parent / "SE1", HU[:2])
    with pytest.raises(VolumeError, match=r"cd: holds 2 series of 6, 2 slices; .* away: DICOM/PA0/ST0/SE1/000_0$"):
        read_dicom_series(tmp_path / "cd")


@pytest.mark.parametrize("name", ["Thumbs.db", "desktop.ini", "README.txt", "preview.jpg", "series.json", "a.1.b"])
def test_other_files_beside_the_slices_are_not_read(tmp_path, name):
    series = write_series(tmp_path / "s", HU)
    expected = read_dicom_series(series).voxels
    (series / name).write_bytes(b"\xd0\xcf\x11\xe0" * 900)
    np.testing.assert_array_equal(read_dicom_series(series).voxels, expected)


@pytest.mark.parametrize("name", ["IM7", "IM7.dcm", "IM7.IMA", "1.2.840.7", "IM7.007"])
@pytest.mark.parametrize("content", [b"", b"\0" * 900])
def test_a_damaged_slice_is_not_mistaken_for_another_file(tmp_path, name, content):
    (write_series(tmp_path / "s", HU) / name).write_bytes(content)
    with pytest.raises(VolumeError, match=rf"s/{name}: not a DICOM file"):
        read_dicom_series(tmp_path / "s")


def drop_slices(k, item):
    if k >= 3:
        item.ImagePositionPatient = [-10, -20, 30 + 2.5 * (k + 2)]


def shift_a_slice(k, item):
    if k == 4:
        item.ImagePositionPatient[2] += 0.8


def shift_sideways(axis, mm):
    def change(k, item):
        if k == 3:
            item.ImagePositionPatient[axis] += mm

    return change


def shear(k, item):
    item.ImagePositionPatient = [-10, -20 + 0.5 * k, 30 + 2.5 * k]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_slices, r"2 slices .*missing.* slice 3.*7\.50 mm.*2\.50 mm"),
        (shift_a_slice, r"/004_4: .*1\.70 to 3\.30 mm"),
        (shift_sideways(1, 60), r"/003_3: the slice is \d\d\.\d mm beside the line"),
        (shift_sideways(0, 200), r"/003_3: the slice is 1\d\d\.\d mm beside the line"),
        (shift_sideways(1, 1), r"/003_3: the slice is 0\.8 mm beside the line"),
        (shear, r"11\.31 degrees \(gantry tilt\)"),
        (lambda k, item: setattr(item, "PixelSpacing", [0.5, 0.8]), r"0\.8×0\.5 mm, a ratio of 1\.6"),
        (lambda k, item: setattr(item, "SeriesInstanceUID", f"1.2.{int(k == 4)}"), "2 series of 5, 1 .* away: 004_4$"),
        (
            lambda k, item: setattr(item, "SeriesInstanceUID", f"1.2.{k}"),
            "6 series of 1, 1, 1, … slices; .* away: 001_1, 002_2, 003_3, …$",
        ),
        (lambda k, item: setattr(item, "Modality", "MR"), "MR.*CT"),
        (lambda k, item: setattr(item, "ImagePositionPatient", [0, 0, k // 2]), r"001_1: .*duplicate .*\(3 in all"),
        (lambda k, item: setattr(item, "PixelSpacing", [0.75 + (k == 3), 0.8]), "/003_3: .* differs in PixelSpacing"),
        (lambda k, item: setattr(item, "ImageOrientationPatient", [1, 0, 0, 1, 0, 0]), "at right angles"),
        (lambda k, item: setattr(item, "PixelSpacing", [0, 0.8]), "PixelSpacing is not above 0"),
        (lambda k, item: setattr(item, "RescaleType", "OD"), "OD.*Hounsfield"),
        (lambda k, item: setattr(item, "NumberOfFrames", 2), "frames"),
        (lambda k, item: setattr(item, "RescaleType", "Meier"), "values in unknown"),
        (lambda k, item: delattr(item, "BitsStored"), "lacks BitsStored;"),
        (lambda k, item: delattr(item, "PixelRepresentation"), "lacks PixelRepresentation;"),
        (lambda k, item: delattr(item, "PhotometricInterpretation"), "lacks PhotometricInterpretation;"),
        (lambda k, item: setattr(item, "Modality", "CT MEIER"), "modality unknown"),
        (lambda k, item: setattr(item, "SamplesPerPixel", 3), "color"),
        (lambda k, item: delattr(item, "RescaleSlope"), "lacks RescaleSlope"),
        (lambda k, item: delattr(item, "ImagePositionPatient"), "lacks ImagePositionPatient"),
        (lambda k, item: setattr(item, "PixelData", item.PixelData[:6]), "pixels cannot be decoded"),
        (lambda k, item: setattr(item, "RescaleIntercept", 40000), r"values up to .* HU; .*PixelPaddingValue"),
    ],
)
def test_a_series_without_a_regular_ct_grid_is_refused_with_the_reason(tmp_path, change, message):
    write_series(tmp_path / "s", HU, change=change)
    with pytest.raises(VolumeError, match=message) as error:
        read_dicom_series(tmp_path / "s")
    assert str(error.value).startswith(str(tmp_path / "s"))
    assert "meier" not in str(error.value).lower()


def test_truncated_and_foreign_files_are_named_and_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(VolumeError, match=rf"{tmp_path}.*no files"):
        read_dicom_series(tmp_path)
    file = write_series(tmp_path / "s", HU) / "000_0"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(VolumeError, match=r"000_0: .*truncated"):
        read_dicom_series(tmp_path / "s")


@pytest.mark.parametrize("step_mm", [0.25, 0.625, 0.701, 1.25, 2.51, 3.27])
@pytest.mark.parametrize("count", [5, 40])
def test_positions_rounded_to_a_tenth_count_as_even_and_a_gap_in_them_is_found(tmp_path, step_mm, count):
    positions = [[-10, round(-20 + 0.002 * step_mm * k, 1), round(30 + step_mm * k, 1)] for k in range(count + 1)]
    hu = np.zeros((count, 1, 1))
    volume = read_dicom_series(write_series(tmp_path / "s", hu, positions_mm=positions))
    assert volume.spacing_mm[2] == pytest.approx(step_mm, abs=0.11 / count)
    del positions[count // 3]
    with pytest.raises(VolumeError, match=rf"gap: 1 slice is missing, the first after slice {count // 3} "):
        read_dicom_series(write_series(tmp_path / "gap", hu, positions_mm=positions))


def with_text(**texts):
    """Set attributes to texts that their type does not allow."""

    def change(k, item):
        for name, text in texts.items():
            item.add_new(name, "LO", text)

    return change


@pytest.mark.parametrize(
    "change",
    [
        with_text(GantryDetectorTilt="12"),
        with_text(SliceThickness="2.5mm", SpacingBetweenSlices=["2", "3"]),
        with_text(SliceThickness=["2.5", "5"], GantryDetectorTilt="tilted"),
        with_text(NumberOfFrames="0"),
        with_text(RescaleType="hu"),
        with_text(RescaleType="Hu "),
    ],
)
def test_what_a_series_does_not_require_does_not_refuse_it(tmp_path, recwarn, change):
    assert read_dicom_series(write_series(tmp_path / "s", HU, change=change)).spacing_mm[2] == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_text(GantryDetectorTilt="12"), "gantry tilt of 12 degrees"),
        (with_text(SliceThickness="2,5"), "SliceThickness is 2,5; expected a finite number"),
        (with_text(SliceThickness=""), "without a thickness"),
    ],
)
def test_one_slice_takes_its_thickness_and_tilt_from_its_file(tmp_path, recwarn, change, message):
    assert read_dicom_series(write_series(tmp_path / "one", HU[:1])).spacing_mm[2] == pytest.approx(2.5)
    with pytest.raises(VolumeError, match=rf"s/000_0: .*{message}"):
        read_dicom_series(write_series(tmp_path / "s", HU[:1], change=change))


def test_invalid_values_are_read_but_not_in_the_warnings(tmp_path, recwarn):
    def change(k, item):
        with pytest.warns(UserWarning, match="Invalid value"):
            item.StudyInstanceUID = "Meier Hans"

    read_dicom_series(write_series(tmp_path / "s", HU, change=change))
    assert not [warning for warning in recwarn if "Meier" in str(warning.message)]
