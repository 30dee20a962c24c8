"""A small picture of a case: one axial slice with the mask's outline, as PNG."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from components.ct.intensity import apply_window
from components.ct.lesions import Lesions
from components.report.page import ORANGE

_EDGE_PIXELS = 192  # of the longer side: some 12 kB a case, so that a page of twenty is a few hundred kB
_GRAYS = 24  # a thumbnail needs no more, and its PNG is half as large as with 256


def shown_slice(slices_mask: NDArray, lesions: Lesions) -> int:
    """The slice with most lesion, or the middle one of a mask without any."""
    if not lesions.count:
        return len(slices_mask) // 2
    return int(lesions.box[0].start + np.argmax([np.count_nonzero(labels) for labels in lesions.labels]))


def outlined(slice_hu: NDArray, mask: NDArray, spacing_mm: tuple[float, float]) -> bytes:
    """Draw a slice in the network's window, in the patient's proportions, the mask outlined.

    Args:
        slice_hu: (rows, columns) HU.
        mask: (rows, columns) lesion mask.
        spacing_mm: size of a pixel along rows and columns.
    """
    size = _picture_size(slice_hu.shape, spacing_mm)
    gray = apply_window(slice_hu.astype(np.float32)) * (_GRAYS - 1)
    pixels = np.rint(np.asarray(Image.fromarray(gray).resize(size, Image.Resampling.BOX))).astype(np.uint8)
    share = np.asarray(Image.fromarray((mask != 0).astype(np.float32)).resize(size, Image.Resampling.BOX))
    # A lesion that fills no half of a pixel is seen as well.
    lesion = (share > 0) & (share >= min(0.5, share.max()))
    pixels[ndimage.binary_dilation(lesion) & ~lesion] = _GRAYS
    picture = Image.fromarray(pixels, mode="P")
    picture.putpalette([*np.repeat(np.linspace(0, 255, _GRAYS).astype(np.uint8), 3).tolist(), *_rgb(ORANGE)])
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _picture_size(shape: tuple[int, ...], spacing_mm: tuple[float, float]) -> tuple[int, int]:
    """Width and height of the picture in pixels."""
    depth_mm, width_mm = shape[0] * spacing_mm[0], shape[1] * spacing_mm[1]
    scale = _EDGE_PIXELS / max(depth_mm, width_mm)
    return max(1, round(width_mm * scale)), max(1, round(depth_mm * scale))


def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
