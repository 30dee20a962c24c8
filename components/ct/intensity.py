"""Conversion of stored scan values to Hounsfield units.

The 20-case COVID-19 set mixes raw HU with 8-bit volumes that were windowed from [-1250, 250] HU to [0, 255] before
publication (Zenodo record 3757476, files `radiopaedia_*`): -600 HU in one file is 110 in another.
"""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.ct.volume import Volume, positive_strides, read_volume
from components.runtime.errors import VolumeError, format_beside

WINDOW_HU = (-1250.0, 250.0)  # of the 8-bit files, the network's input layer, and all images
FLOOR_HU = -1024  # the lowest CT number; scanners pad outside their field of view with lower values
_CEILING_HU = 32767

# Shares of voxels that no chest CT in HU exceeds. In parentheses: the most in real scans, the least in wrong ones.
_MAX_BRIGHT_SHARE, _BRIGHT_HU = 0.1, 500  # bone (5 %; 24 % with HU + 1024 or the opposite sign)
_MAX_PADDING_SHARE, _PADDING_HU = 0.01, 3100  # above 12 bits: metal (0 %; padding outside a circle is 21 %)
_MAX_DARK_SHARE, _DARK_HU = 0.1, -1100  # below air, without padding (2 %; 23 % with HU - 1000)
_PADDINGS, _PADDING_NOISE_HU = 2, 16  # paddings of one scan, and the noise of lossy compression around them
_MAX_TISSUE_SHARE, _TISSUE_HU = 0.1, -200  # without air and lung (0 %; 28 % with HU / 2)
_MIN_LUNG_SHARE, _LUNG_HU = 0.03, -600  # of air and lung: there are some (19 %; 1.4 % with HU / 2)
_MIN_BONE_HU = 110  # 99.5th percentile of an 8-bit scan (144 HU; 79 HU if inverted)
_SAMPLE = (128, 128, 96)  # largest subsampled shape


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
    if low < -200 < high <= _CEILING_HU:
        return Intensity.HU
    if 0 <= low <= 64 and 192 <= high <= 255:
        return Intensity.WINDOWED
    return Intensity.UNKNOWN


def find_scale_problem(voxels: NDArray, intensity: Intensity) -> str | None:
    """Return why the stored values of a scan cannot be what their range suggests; None if they can.

    Wrong offsets, signs and paddings leave the range plausible. The anatomy does not: a chest consists of air, lung and
    soft tissue with a little bone.
    """
    if intensity is Intensity.UNKNOWN:
        low, high = value_range(voxels)
        return (
            f"values from {low:g} to {high:g} are of unknown scale; expected HU (air below -200) or 8-bit windowed "
            f"(0 to 255 over {WINDOW_HU[0]:g} to {WINDOW_HU[1]:g} HU)"
        )
    steps = (-(-n // most) for n, most in zip(voxels.shape, _SAMPLE, strict=True))
    sample = voxels[tuple(slice(None, None, step) for step in steps)]
    if intensity is Intensity.HU:
        return _find_hu_problem(sample)
    # Outside a circular field of view may be padding.
    x, y = np.meshgrid(*((2 * np.arange(n) + 1) / n - 1 for n in sample.shape[:2]), indexing="ij")
    bone_hu = float(np.percentile(to_hu(sample[x**2 + y**2 <= 0.9], intensity), 99.5))
    if bone_hu < _MIN_BONE_HU:
        return f"99.5 % of the voxels are below {bone_hu:.0f} HU: no bone, inverted?; expected air darker than bone"
    return None


def _find_hu_problem(sample: NDArray) -> str | None:
    dark = np.rint(sample[sample < _DARK_HU])
    for _ in range(_PADDINGS):
        values, counts = np.unique(dark, return_counts=True)
        dark = dark[np.abs(dark - values[counts.argmax()]) > _PADDING_NOISE_HU] if dark.size else dark
    is_lungless = ((sample >= _DARK_HU) & (sample < _LUNG_HU)).mean() < _MIN_LUNG_SHARE
    tissue_share = is_lungless * (sample > _TISSUE_HU).mean()
    for share, limit, finding in (
        ((sample > _PADDING_HU).mean(), _MAX_PADDING_SHARE, f"above {_PADDING_HU} HU (padding, or a wrong scale)"),
        ((sample > _BRIGHT_HU).mean(), _MAX_BRIGHT_SHARE, f"above {_BRIGHT_HU} HU (HU + 1024, or a wrong sign?)"),
        (dark.size / sample.size, _MAX_DARK_SHARE, f"below {_DARK_HU} HU (HU - 1024?)"),
        (tissue_share, _MAX_TISSUE_SHARE, f"above {_TISSUE_HU} HU, with neither air nor lung (HU / 2?)"),
    ):
        if share > limit:
            percent = format_beside(100 * share, 100 * limit)
            return f"{percent} % of the voxels are {finding}; expected at most {limit:.0%} in a chest CT"
    return None


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
    """Read a scan, a NIfTI file or the folder of a DICOM series, as int16 HU; also return its stored scale.

    Raises:
        VolumeError: the scan cannot be read, or its values are neither HU nor 8-bit windowed.
    """
    if path.is_dir():
        from components.ct.dicom import read_dicom_series  # pydicom takes a moment

        stored = read_dicom_series(path)
    else:
        stored = read_volume(path)
    intensity = detect_intensity(stored.voxels)
    if problem := find_scale_problem(stored.voxels, intensity):
        raise VolumeError(f"{path}: {problem}; export the scan in HU")
    return replace(stored, voxels=to_hu(stored.voxels, intensity)), intensity
