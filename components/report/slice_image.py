"""Images of an axial slice with outlined masks: SVG for the evaluation report, PNG for validation and prediction.

All share one choice of the slice, one gray scale (the CT window of `components.ct.intensity`), and one contour.
"""

import io
from base64 import b64encode

import numpy as np
from contourpy import contour_generator
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw

from components.ct.grid import axial_slices
from components.ct.intensity import apply_window
from components.report.page import ORANGE, SKY

_SVG_EDGE = 640  # pixels; three such images keep a report under 5 MB
_THUMBNAIL_EDGE, _THUMBNAIL_GRAYS = 192, 24  # about 12 kB; 256 grays would double that and look the same
_PREVIEW_WIDTH, _PREVIEW_HEIGHT, _PREVIEW_GRAYS = 495, 792, 255


def largest_lesion_slice(*masks: NDArray) -> int:
    """Return the index of the (n, rows, columns) slice with the largest area of the first mask that is not empty.

    If all masks are empty, return the middle slice.
    """
    for mask in masks:
        # Slice by slice: count_nonzero along axes first converts the whole volume to integers.
        areas = [np.count_nonzero(slice_mask) for slice_mask in mask]
        if any(areas):
            return int(np.argmax(areas))
    return len(masks[0]) // 2


def overlay_svg(
    name: str,
    slice_hu: NDArray[np.int16],
    truth: NDArray[np.bool_],
    prediction: NDArray[np.bool_],
    pixel_mm: tuple[float, float],
) -> bytes:
    """Draw a slice with the ground truth in solid blue and the prediction in dashed orange, as SVG.

    Args:
        name: letters, digits, `.`, `_` and `-`. A page can repeat the slice without outlines by its id, `scan-<name>`.
        slice_hu: (rows, columns) int16.
        truth: (rows, columns) ground-truth mask.
        prediction: (rows, columns) predicted mask.
        pixel_mm: height and width of a pixel.
    """
    height, width = (edge * mm for edge, mm in zip(slice_hu.shape, pixel_mm, strict=True))
    shrink = min(1, _SVG_EDGE / max(slice_hu.shape))
    gray = _gray(slice_hu, (round(slice_hu.shape[1] * shrink), round(slice_hu.shape[0] * shrink)), 256)
    lines = "".join(
        f'<path d="{_svg_path(mask, pixel_mm)}" fill="none" stroke="{color}" stroke-width="1.6" '
        f'vector-effect="non-scaling-stroke" stroke-dasharray="{dashes}"/>'
        for mask, color, dashes in ((truth, SKY, "none"), (prediction, ORANGE, "5 3"))
        if mask.any()
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.6g} {height:.6g}" width="{_SVG_EDGE}">'
        f'<image id="scan-{name}" width="{width:.6g}" height="{height:.6g}" preserveAspectRatio="none" '
        f'href="data:image/png;base64,{b64encode(_png(Image.fromarray(gray))).decode()}"/>{lines}</svg>'
    ).encode()


def thumbnail_png(slice_hu: NDArray, mask: NDArray, pixel_mm: tuple[float, float]) -> bytes:
    """Draw a slice in the patient's proportions with its mask outlined, as a small PNG.

    Args:
        slice_hu: (rows, columns) HU.
        mask: (rows, columns) lesion mask.
        pixel_mm: height and width of a pixel.
    """
    size = _fit(slice_hu.shape, pixel_mm, _THUMBNAIL_EDGE, _THUMBNAIL_EDGE)
    image = _palette_image(_gray(slice_hu, size, _THUMBNAIL_GRAYS), _THUMBNAIL_GRAYS)
    _draw_outline(image, mask, fill=_THUMBNAIL_GRAYS, width=1)
    return _png(image)


def preview_png(scan_hu: NDArray[np.int16], mask: NDArray[np.uint8], spacing_mm: tuple[float, float, float]) -> bytes:
    """Draw the axial slice with most lesion twice, plain and outlined, as one PNG.

    Args:
        scan_hu: (x, y, z) int16 in RAS+.
        mask: (x, y, z) of 0 and 1.
        spacing_mm: voxel size along x, y and z.
    """
    slices_mask = axial_slices(mask)
    index = largest_lesion_slice(slices_mask)
    slice_hu = axial_slices(scan_hu)[index]
    size = _fit(slice_hu.shape, (spacing_mm[1], spacing_mm[0]), _PREVIEW_WIDTH, _PREVIEW_HEIGHT)
    gray = _gray(slice_hu, size, _PREVIEW_GRAYS)
    image = _palette_image(np.hstack([gray, gray]), _PREVIEW_GRAYS)
    outline_image = _palette_image(gray, _PREVIEW_GRAYS)
    _draw_outline(outline_image, slices_mask[index], fill=_PREVIEW_GRAYS, width=2)
    image.paste(outline_image, (size[0], 0))
    return _png(image)


def webp(png: bytes) -> bytes:
    """Compress a picture for a page: a CT slice becomes about seven times smaller and looks the same."""
    file = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(file, "webp", quality=75)
    return file.getvalue()


def _fit(shape: tuple[int, ...], pixel_mm: tuple[float, float], width: int, height: int) -> tuple[int, int]:
    """Return the (width, height) of the largest image in the patient's proportions that fits into a box, in pixels."""
    height_mm, width_mm = shape[0] * pixel_mm[0], shape[1] * pixel_mm[1]
    scale = min(width / width_mm, height / height_mm)
    return max(1, round(width_mm * scale)), max(1, round(height_mm * scale))


def _gray(slice_hu: NDArray, size: tuple[int, int], levels: int) -> NDArray[np.uint8]:
    """Resample a slice to (width, height) and map the CT window to 0 … `levels` - 1."""
    shares = Image.fromarray(apply_window(slice_hu.astype(np.float32)))
    return np.rint(np.asarray(shares.resize(size, Image.Resampling.BILINEAR)) * (levels - 1)).astype(np.uint8)


def _palette_image(gray: NDArray[np.uint8], grays: int) -> Image.Image:
    """Return an image whose colors are `grays` gray levels and, at index `grays`, the color of outlines."""
    levels = np.linspace(0, 255, grays).astype(np.uint8)
    image = Image.frombytes("P", gray.shape[::-1], gray.tobytes())
    image.putpalette([*np.repeat(levels, 3).tolist(), *ImageColor.getrgb(ORANGE)])
    return image


def _draw_outline(image: Image.Image, mask: NDArray, fill: int, width: int) -> None:
    scale = np.divide(image.size, mask.shape[::-1])
    draw = ImageDraw.Draw(image)
    for contour in _contours(mask):
        # Pillow's coordinates name pixel centers.
        draw.line([tuple(point) for point in contour * scale - 0.5], fill=fill, width=width)


def _svg_path(mask: NDArray[np.bool_], pixel_mm: tuple[float, float]) -> str:
    to_mm = np.array([pixel_mm[1], pixel_mm[0]])
    return "".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in line * to_mm) + "Z" for line in _contours(mask))


def _contours(mask: NDArray) -> list[NDArray[np.float64]]:
    """Return the closed border lines of a mask, each (n, 2) of x and y in pixels from the slice's corner."""
    # The padding closes the line around a mask that touches the slice's border.
    lines = contour_generator(z=np.pad(mask != 0, 1).astype(np.float32)).lines(0.5)
    return [np.asarray(line) - 0.5 for line in lines]


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()
