"""The scale of stored values."""

import numpy as np
import pytest

from components.ct.intensity import Intensity, detect_intensity, read_ct, to_hu
from components.ct.volume import FileGrid, write_on_file_grid
from components.runtime.errors import VolumeError


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
    with pytest.raises(VolumeError, match=r"scan\.nii\.gz: values from 0 to 70; expected HU"):
        read_ct(path)
