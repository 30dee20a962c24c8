"""A predicted lesion as a picture: the slice that shows most of it, plain and outlined."""

import io

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from components.ct.grid import axial_slices
from components.ct.intensity import WINDOW_HU

_OUTLINE = "#E69F00"  # stands out from gray tissue for readers with any color vision (Okabe and Ito, 2008)
_INCHES = 4.5


def preview_png(
    scan_hu: NDArray[np.int16],
    mask: NDArray[np.uint8],
    spacing_mm: tuple[float, float, float],
    pixels_per_inch: int = 110,
) -> bytes:
    """Draw the axial slice with most lesion, or the middle one, as a PNG.

    Args:
        scan_hu: (x, y, z) int16 in RAS+.
        mask: (x, y, z) of 0 and 1.
        spacing_mm: voxel size along x, y and z.
        pixels_per_inch: each of the two pictures is 4.5 inches wide.
    """
    area = np.count_nonzero(mask, axis=(0, 1))
    index = int(area.argmax()) if area.any() else len(area) // 2
    picture, outline = axial_slices(scan_hu)[index], axial_slices(mask)[index]
    aspect = spacing_mm[1] / spacing_mm[0]
    height = _INCHES * float(np.clip(picture.shape[0] * aspect / picture.shape[1], 0.4, 1.6))
    figure = Figure(figsize=(2 * _INCHES, height), dpi=pixels_per_inch, facecolor="black")
    for column in range(2):
        axes = figure.add_axes((0.5 * column, 0, 0.5, 1))
        axes.imshow(picture, cmap="gray", vmin=WINDOW_HU[0], vmax=WINDOW_HU[1], aspect=aspect)
        axes.set_axis_off()
    if outline.any() and not outline.all():
        axes.contour(outline, levels=[0.5], linewidths=1.2, colors=_OUTLINE)
    elif outline.all():
        axes.imshow(np.ones_like(outline), cmap="autumn", alpha=0.3, aspect=aspect)
    file = io.BytesIO()
    # Without the program's name, so that the same numbers give the same bytes.
    figure.savefig(file, format="png", facecolor="black", metadata={"Software": None})
    return file.getvalue()
