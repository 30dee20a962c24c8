"""What a scan's stored numbers mean, and the one way from them to Hounsfield units.

The 20-case COVID-19 set mixes raw HU with 8-bit volumes that were windowed from [-1250, 250] HU to [0, 255]
before they were published (Zenodo record 3757476, files `radiopaedia_*`). Mixed untreated, a voxel of -600 HU
in one file and of 110 in another are the same tissue.
"""

from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.ct.volume import Volume, positive_strides, read_volume
from components.runtime.errors import VolumeError

WINDOW_HU = (-1250.0, 250.0)  # the window of the 8-bit files above, and the network's own first layer
FLOOR_HU = -1024  # the least a CT stores; scanners pad outside their field of view with lower marks
_CEILING_HU = 32767


class Intensity(StrEnum):
    """How a scan's numbers relate to HU."""

    HU = "hu"  # raw Hounsfield units
    WINDOWED = "windowed"  # 0..255, linear over WINDOW_HU
    UNKNOWN = "unknown"  # neither: not to be trained on or predicted from


def detect_intensity(voxels: NDArray) -> Intensity:
    """Tell what the numbers of a whole scan are, see `classify_range`."""
    return classify_range(*value_range(voxels))


def value_range(voxels: NDArray) -> tuple[float, float]:
    """The smallest and the largest value of a volume, whichever way it lies in memory."""
    forward = voxels[positive_strides(voxels)]
    return float(forward.min()), float(forward.max())


def classify_range(low: float, high: float) -> Intensity:
    """Tell what the numbers of a whole scan are, by its `value_range`.

    Raw HU holds air: a chest CT reaches below -200. A windowed volume stays within 0..255 and uses most of
    that range, since air lies near 42 and soft tissue near 220. Anything else (a range of 0..1, a scan stored
    without its intercept) is unknown.
    """
    if low < -200 and high > -200:
        return Intensity.HU
    if 0 <= low <= 64 and 192 <= high <= 255:
        return Intensity.WINDOWED
    return Intensity.UNKNOWN


def to_hu(voxels: NDArray, intensity: Intensity) -> NDArray[np.int16]:
    """Turn stored numbers into int16 HU, raw HU clipped below at `FLOOR_HU`; what is so already is not copied."""
    forward = positive_strides(voxels)
    stored = voxels[forward]
    if intensity is Intensity.HU:
        if stored.dtype == np.int16:
            if stored.min() >= FLOOR_HU:
                return voxels
            return np.maximum(stored, np.int16(FLOOR_HU))[forward]
        return np.rint(np.clip(stored, FLOOR_HU, _CEILING_HU)).astype(np.int16)[forward]
    if intensity is Intensity.WINDOWED:
        low, high = WINDOW_HU
        table = np.rint(np.arange(256) / 255 * (high - low) + low).astype(np.int16)
        return table[np.rint(stored).astype(np.uint8)][forward]
    raise ValueError("a scan of unknown intensity has no HU")


def apply_window(hu: NDArray) -> NDArray:
    """HU as shares of `WINDOW_HU`: 0 up to its lower end, 1 from its upper end on; float32 stays float32."""
    low, high = WINDOW_HU
    return np.clip((hu - low) / (high - low), 0, 1)


def read_ct(path: Path) -> tuple[Volume, Intensity]:
    """Read a scan as a volume of int16 HU, with the kind of numbers that the file held.

    Raises:
        VolumeError: the file is not readable, or its numbers are neither HU nor 8-bit windowed.
    """
    stored = read_volume(path)
    intensity = detect_intensity(stored.voxels)
    if intensity is Intensity.UNKNOWN:
        low, high = value_range(stored.voxels)
        raise VolumeError(
            f"{path}: values from {low:g} to {high:g} are neither HU (air below -200) nor 8-bit windowed "
            f"(0 to 255 over {WINDOW_HU[0]:g} to {WINDOW_HU[1]:g} HU); export the scan in HU"
        )
    hu = Volume(to_hu(stored.voxels, intensity), stored.spacing_mm, stored.file_grid, stored.stored_dtype)
    return hu, intensity
