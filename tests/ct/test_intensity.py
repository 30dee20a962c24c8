"""The scale of stored values."""

from pathlib import Path

import numpy as np
import pytest

from components.ct.intensity import Intensity, detect_intensity, read_ct, to_hu
from components.ct.phantom import write_cohort
from components.ct.volume import FileGrid, write_on_file_grid
from components.runtime.errors import VolumeError

REAL = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.parametrize(
    ("low", "high", "kind"),
    [
        (-1023, 9567, Intensity.HU),  # coronacases
        (-3600, 2000, Intensity.HU),  # resampled with overshoot
        (0, 255, Intensity.WINDOWED),  # radiopaedia
        (2, 255, Intensity.WINDOWED),
        (0, 1, Intensity.UNKNOWN),
        (0, 4095, Intensity.UNKNOWN),  # stored without its intercept
        (0, 100, Intensity.UNKNOWN),
        (-1024, -900, Intensity.UNKNOWN),  # air alone
        (0, 0, Intensity.UNKNOWN),
        (-1024, 62512, Intensity.UNKNOWN),  # unsigned padding
    ],
)
def test_the_range_identifies_the_scale(low, high, kind):
    assert detect_intensity(np.array([low, high, (low + high) // 2])) is kind


def test_an_8_bit_scan_is_converted_over_its_window():
    np.testing.assert_array_equal(to_hu(np.array([0, 51, 255], np.uint8), Intensity.WINDOWED), [-1250, -950, 250])


def test_hu_are_rounded_and_clipped_below_air():
    np.testing.assert_array_equal(
        to_hu(np.array([-3600.2, -1024.6, -700.4, 99999]), Intensity.HU), [-1024, -1024, -700, 32767]
    )
    np.testing.assert_array_equal(to_hu(np.array([-2048, 40], np.int16), Intensity.HU), [-1024, 40])


def test_a_scan_of_unknown_scale_is_refused_with_its_range(tmp_path):
    path = tmp_path / "scan.nii.gz"
    write_on_file_grid(path, np.arange(0, 80, 10, dtype=np.uint8).reshape(2, 2, 2), FileGrid((2, 2, 2), np.eye(4)))
    with pytest.raises(VolumeError, match=r"scan\.nii\.gz: values from 0 to 70 are of unknown scale; expected HU"):
        read_ct(path)


def circle(shape: tuple[int, ...]) -> np.ndarray:
    """The field of view in an (x, y, z) volume."""
    x, y = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape[:2]), indexing="ij")
    return np.broadcast_to((x**2 + y**2 <= 1)[..., None], shape)


def to_gray(hu: np.ndarray) -> np.ndarray:
    return np.clip(np.rint((hu + 1250.0) * 255 / 1500), 0, 255)


@pytest.fixture(scope="module")
def phantom_hu(tmp_path_factory) -> np.ndarray:
    folder = tmp_path_factory.mktemp("phantom")
    write_cohort(folder, 1, seed=0)
    return read_ct(folder / "scans" / "phantom_001.nii.gz")[0].voxels.astype(np.int32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda hu: np.where(circle(hu.shape), hu + 1024, -2000), r"above 500 HU \(HU \+ 1024"),
        (lambda hu: np.where(circle(hu.shape), hu + 1000, -1024), r"above 500 HU \(HU \+ 1024"),
        (lambda hu: -hu, r"above 500 HU .*a wrong sign"),
        (lambda hu: np.where(circle(hu.shape), hu, 32767), r"above 3100 HU \(padding"),
        (lambda hu: np.where(circle(hu.shape), hu, 62512), "62512 are of unknown scale"),
        (lambda hu: np.where(hu > 300, hu, hu - 1024), r"below -1100 HU \(HU - 1024"),
        (lambda hu: hu - 500, r"below -1100 HU \(HU - 1024"),
        (lambda hu: hu // 2, r"above -200 HU, with neither air nor lung \(HU / 2"),
        (lambda hu: np.where(circle(hu.shape), hu // 2, -2000), r"above -200 HU, with neither air nor lung \(HU / 2"),
        (lambda hu: 255 - to_gray(hu), "no bone, inverted"),
        (lambda hu: 255 - np.where(circle(hu.shape), to_gray(hu), 0), "no bone, inverted"),
    ],
)
def test_values_that_contradict_the_anatomy_are_refused(tmp_path, phantom_hu, change, message):
    path = tmp_path / "scan.nii.gz"
    write_on_file_grid(path, change(phantom_hu).astype(np.int32), FileGrid(phantom_hu.shape, np.eye(4)))
    with pytest.raises(VolumeError, match=rf"scan\.nii\.gz: .*{message}"):
        read_ct(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda hu: hu,
        to_gray,
        lambda hu: np.where(circle(hu.shape), hu, -3024),
        lambda hu: np.where(circle(hu.shape), hu, np.random.default_rng(0).normal(-2000, 3, hu.shape)),
        lambda hu: np.where(np.arange(hu.shape[2]) < 8, -3024, np.where(circle(hu.shape), hu, -2048)),
        lambda hu: np.where(hu > -900, hu, -2000) - (np.arange(hu.shape[2]) == 0) * 300,  # without air, and overshoot
        lambda hu: np.where(circle(hu.shape), to_gray(hu), 0),
    ],
)
def test_a_phantom_in_hu_or_8_bit_with_usual_padding_is_read(tmp_path, phantom_hu, change):
    path = tmp_path / "scan.nii.gz"
    write_on_file_grid(path, change(phantom_hu).astype(np.int16), FileGrid(phantom_hu.shape, np.eye(4)))
    assert read_ct(path)[0].voxels.min() >= -1250


@pytest.mark.skipif(not REAL.is_dir(), reason="the real chest CTs are absent")
def test_no_real_scan_is_refused_and_none_has_a_note():
    scans = sorted(REAL.glob("*/scans/*.nii.gz"))
    assert len(scans) == 325
    assert not [note for path in scans for note in read_ct(path)[0].notes]
