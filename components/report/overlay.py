"""A slice with both masks outlined: a gray picture with lines over it, as an SVG file of its own.

The lines stay sharp and equally thin at any size. A figure of matplotlib takes half a second for the same.
"""

import io
from base64 import b64encode

import numpy as np
from contourpy import contour_generator
from numpy.typing import NDArray
from PIL import Image

from components.ct.intensity import apply_window
from components.report.page import ORANGE, SKY

_LONGEST_EDGE = 640  # pixels: a report holds three, within 5 MB


def shown_slice(truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> int:
    """Which of (n, h, w) slices to show: the one with most lesion, or most prediction, or the middle one."""
    for mask in (truth, prediction):
        # Slice by slice: along axes, NumPy first makes integers of a whole volume.
        area = np.array([np.count_nonzero(lesion) for lesion in mask])
        if area.any():
            return int(area.argmax())
    return len(truth) // 2


def overlay(
    name: str,
    slice_hu: NDArray[np.int16],
    truth: NDArray[np.bool_],
    prediction: NDArray[np.bool_],
    pixel_mm: tuple[float, float],
) -> bytes:
    """Draw an axial slice with the truth in solid blue and the prediction in dashed orange, as SVG.

    Args:
        name: of letters, digits, `.`, `_` and `-`. The plain slice has the id `scan-<name>`, so that a page can
            show it once more without the lines.
        slice_hu: (rows, columns) int16.
        truth: (rows, columns) mask of the radiologist.
        prediction: (rows, columns) mask of the model.
        pixel_mm: height and width of a pixel.
    """
    height, width = (edge * mm for edge, mm in zip(slice_hu.shape, pixel_mm, strict=True))
    lines = "".join(
        f'<path d="{_outline(mask, pixel_mm)}" fill="none" stroke="{color}" stroke-width="1.6" '
        f'vector-effect="non-scaling-stroke" stroke-dasharray="{dashes}"/>'
        for mask, color, dashes in ((truth, SKY, "none"), (prediction, ORANGE, "5 3"))
        if mask.any()
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.6g} {height:.6g}" width="{_LONGEST_EDGE}">'
        f'<image id="scan-{name}" width="{width:.6g}" height="{height:.6g}" preserveAspectRatio="none" '
        f'href="data:image/png;base64,{b64encode(_gray_png(slice_hu)).decode()}"/>{lines}</svg>'
    ).encode()


def _gray_png(slice_hu: NDArray[np.int16]) -> bytes:
    image = Image.fromarray((apply_window(slice_hu) * 255).astype(np.uint8))
    image.thumbnail((_LONGEST_EDGE, _LONGEST_EDGE))
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


def _outline(mask: NDArray[np.bool_], pixel_mm: tuple[float, float]) -> str:
    """The border of a mask as an SVG path in mm from the slice's corner."""
    # Padded, so that a mask that touches the border is closed there as well.
    lines = contour_generator(z=np.pad(mask, 1).astype(np.float32)).lines(0.5)
    to_mm = np.array([pixel_mm[1], pixel_mm[0]])  # a contour's points are (column, row)
    return "".join(
        "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in (np.asarray(line) - 0.5) * to_mm) + "Z" for line in lines
    )
