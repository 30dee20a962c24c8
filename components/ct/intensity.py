"""Conversion of stored scan values to Hounsfield units.

The 20-case COVID-19 set mixes raw HU with 8-bit volumes that were windowed from [-1250, 250] HU to [0, 255] before
publication (Zenodo record 3757476, files `radiopaedia_*`): -600 HU in one file is 110 in another.
"""

from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.ct.volume import Volume, positive_strides, read_volume
from components.runtime.errors import VolumeError

WINDOW_HU = (-1250.0, 250.0)  # of the 8-bit files, the network's input layer, and all images
FLOOR_HU = -1024  # the lowest CT number; scanners pad outside their field of view with lower values
_CEILING_HU = 32767


class Intensity(StrEnum):
    """The scale of a scan's stored values."""

    HU = "hu"  # raw Hounsfield units
    WINDOWED = "windowed"  # 0 to 255, linear over WINDOW_HU
    UNKNOWN = "unknown"  # neither; unusable for training and prediction


def detect_intensity(voxels: NDArray) -> Intensity:
    """Detect the scale of a whole scan, see `classify_range`."""
    return classify_range(*value_range(voxels))


def value_range(voxels: NDArray) -> tuple[float, float]:
    """Return the minimum and maximum of a volume."""
    forward = voxels[positive_strides(voxels)]
    return float(forward.min()), float(forward.max())


def classify_range(low: float, high: float) -> Intensity:
    """Classify the scale of a whole scan by its minimum and maximum.

    Raw HU include air: a chest CT reaches below -200. A windowed volume stays within 0 to 255 and uses most of that
    range, with air near 42 and soft tissue near 220. Anything else is unknown, such as a range of 0 to 1 or a scan
    stored without its intercept.
    """
    if low < -200 < high:
        return Intensity.HU
    if 0 <= low <= 64 and 192 <= high <= 255:
        return Intensity.WINDOWED
    return Intensity.UNKNOWN


def to_hu(voxels: NDArray, intensity: Intensity) -> NDArray[np.int16]:
    """Convert stored values to int16 HU, raw HU clipped below at `FLOOR_HU`; valid int16 HU are not copied."""
    forward = positive_strides(voxels)
    stored = voxels[forward]
    if intensity is Intensity.HU:
        if stored.dtype == np.int16:
            return voxels if stored.min() >= FLOOR_HU else np.maximum(stored, np.int16(FLOOR_HU))[forward]
        return np.rint(np.clip(stored, FLOOR_HU, _CEILING_HU)).astype(np.int16)[forward]
    if intensity is Intensity.WINDOWED:
        low, high = WINDOW_HU
        table = np.rint(np.arange(256) / 255 * (high - low) + low).astype(np.int16)
        return table[np.rint(stored).astype(np.uint8)][forward]
    raise ValueError("a scan of unknown intensity cannot be converted to HU")


def apply_window(hu: NDArray) -> NDArray:
    """Scale `WINDOW_HU` to 0 to 1 and clip values outside; float32 stays float32."""
    low, high = WINDOW_HU
    return np.clip((hu - low) / (high - low), 0, 1)


def read_ct(path: Path) -> tuple[Volume, Intensity]:
    """Read a scan as int16 HU, and return the scale of its stored values.

    Raises:
        VolumeError: the file cannot be read, or its values are neither HU nor 8-bit windowed.
    """
    stored = read_volume(path)
    intensity = detect_intensity(stored.voxels)
    if intensity is Intensity.UNKNOWN:
        low, high = value_range(stored.voxels)
        raise VolumeError(
            f"{path}: values from {low:g} to {high:g}; expected HU (air below -200) or 8-bit windowed (0 to 255 over "
            f"{WINDOW_HU[0]:g} to {WINDOW_HU[1]:g} HU); export the scan in HU"
        )
    hu = Volume(to_hu(stored.voxels, intensity), stored.spacing_mm, stored.file_grid, stored.stored_dtype)
    return hu, intensity
