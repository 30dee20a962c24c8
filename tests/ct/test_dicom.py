"""DICOM series as volumes, from real files."""

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
    # Columns go to the left and rows to the back: both against RAS; slices go up.
    np.testing.assert_array_equal(volume.voxels, HU.transpose(2, 1, 0)[::-1, ::-1])
    assert volume.voxels.dtype == np.int16
    assert volume.spacing_mm == pytest.approx((0.8, 0.5, 2.5))
    assert volume.file_grid.orientation == "LPS"
    np.testing.assert_allclose(
        volume.file_grid.affine, [[-0.8, 0, 0, 10], [0, -0.5, 0, 20], [0, 0, 2.5, 30], [0, 0, 0, 1]]
    )


def test_slope_and_intercept_are_those_of_each_slice(tmp_path):
    def change(k, item):
        item.RescaleSlope, item.RescaleIntercept = (2, -1000) if k == 1 else (1, -1024)

    volume = read_dicom_series(write_series(tmp_path / "s", np.zeros((3, 2, 2)), change=change))
    assert volume.voxels[0, 0].tolist() == [0, 1048, 0]  # 1024 is stored everywhere


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
def test_any_orientation_lies_where_the_scanner_put_it(tmp_path, orientation, axes):
    write_series(tmp_path / "s", HU, orientation=orientation)
    volume = read_dicom_series(tmp_path / "s")
    assert volume.file_grid.orientation == axes
    # The voxel at column 2, row 1, slice 3, by the formula of DICOM PS3.3 C.7.6.2.1.1, in LPS turned to RAS.
    across, down = np.array(orientation[:3]), np.array(orientation[3:])
    lps = np.array([-10, -20, 30]) + across * 0.8 * 2 + down * 0.5 * 1 + np.cross(across, down) * 2.5 * 3
    np.testing.assert_allclose(volume.file_grid.affine @ [2, 1, 3, 1], [-lps[0], -lps[1], lps[2], 1], atol=1e-5)
    turned = nib.apply_orientation(HU.transpose(2, 1, 0), nib.io_orientation(volume.file_grid.affine))
    np.testing.assert_array_equal(volume.voxels, turned)


def test_a_mask_goes_back_onto_the_scans_grid(tmp_path):
    volume = read_dicom_series(write_series(tmp_path / "s", HU))
    write_on_file_grid(tmp_path / "mask.nii.gz", (volume.voxels > 0).astype(np.uint8), volume.file_grid)
    mask = read_volume(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(mask.voxels, volume.voxels > 0)
    np.testing.assert_allclose(mask.file_grid.affine, volume.file_grid.affine, atol=1e-6)


def dropped(k, item):
    if k >= 3:
        item.ImagePositionPatient = [-10, -20, 30 + 2.5 * (k + 2)]


def uneven(k, item):
    if k == 4:
        item.ImagePositionPatient[2] += 0.8


def tilted(k, item):
    item.ImagePositionPatient = [-10, -20 + 0.5 * k, 30 + 2.5 * k]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (dropped, r"2 slices are missing, the first after slice 3: the gap there is 7\.50 mm where 2\.50 mm is usual"),
        (uneven, r"its slices are 1\.70 to 3\.30 mm apart, unevenly from slice 4 on"),
        (tilted, r"shifted against each other by 11\.3 degrees \(a tilted gantry\)"),
        (lambda k, item: setattr(item, "GantryDetectorTilt", 12), "with the gantry tilted by 12 degrees"),
        (lambda k, item: setattr(item, "SeriesInstanceUID", f"1.2.{k % 2}"), "2 series are mixed in it"),
        (lambda k, item: setattr(item, "Modality", "MR"), "its modality is MR; expected a CT series"),
        (lambda k, item: setattr(item, "ImagePositionPatient", [0, 0, k // 2]), "3 slices lie where another one does"),
        (lambda k, item: setattr(item, "PixelSpacing", [0.5 + k, 0.8]), "its slices differ in PixelSpacing"),
        (lambda k, item: setattr(item, "ImageOrientationPatient", [1, 0, 0, 1, 0, 0]), "at right angles"),
        (lambda k, item: setattr(item, "PixelSpacing", [0, 0.8]), "is not finite; export it again"),
        (lambda k, item: setattr(item, "RescaleType", "OD"), "its numbers are in OD; expected Hounsfield units"),
        (lambda k, item: setattr(item, "NumberOfFrames", 2), "several frames"),
        (lambda k, item: setattr(item, "SamplesPerPixel", 3), "holds colors"),
        (lambda k, item: delattr(item, "RescaleSlope"), "lacks RescaleSlope"),
        (lambda k, item: delattr(item, "ImagePositionPatient"), "lacks ImagePositionPatient"),
        (lambda k, item: setattr(item, "PixelData", item.PixelData[:6]), "its pixels cannot be unpacked"),
    ],
)
def test_what_is_no_regular_ct_grid_is_refused_with_the_reason(tmp_path, change, says):
    write_series(tmp_path / "s", HU, change=change)
    with pytest.raises(VolumeError, match=says) as raised:
        read_dicom_series(tmp_path / "s")
    assert str(raised.value).startswith(str(tmp_path / "s"))
    assert "Meier" not in str(raised.value)


def test_a_file_that_is_no_dicom_is_named(tmp_path):
    write_series(tmp_path / "s", HU)
    (tmp_path / "s" / "notes.txt").write_text("x" * 500)
    with pytest.raises(VolumeError, match=r"notes\.txt: is no DICOM file; keep one series, and nothing else"):
        read_dicom_series(tmp_path / "s")


def test_a_truncated_file_is_named(tmp_path):
    write_series(tmp_path / "s", HU)
    file = tmp_path / "s" / "000_0"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(VolumeError, match=r"000_0: its pixels cannot be unpacked .*truncated"):
        read_dicom_series(tmp_path / "s")


def test_positions_that_lost_digits_are_even_enough(tmp_path):
    positions = [[-10, -20, round(30 + 0.625 * k, 2)] for k in range(6)]
    volume = read_dicom_series(write_series(tmp_path / "s", HU, positions_mm=positions))
    assert volume.spacing_mm[2] == pytest.approx(0.625, abs=0.002)


def test_one_slice_takes_its_thickness(tmp_path):
    assert read_dicom_series(write_series(tmp_path / "s", HU[:1])).spacing_mm[2] == pytest.approx(2.5)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(VolumeError, match="holds no files"):
        read_dicom_series(tmp_path)


def test_odd_values_are_read_without_being_shown(tmp_path, recwarn):
    def change(k, item):
        with pytest.warns(UserWarning, match="Invalid value"):
            item.StudyInstanceUID = "Meier Hans"

    read_dicom_series(write_series(tmp_path / "s", HU, change=change))
    assert not [warning for warning in recwarn if "Meier" in str(warning.message)]
