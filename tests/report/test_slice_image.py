"""Slice images: the choice of the slice, outlines at their place, all kinds of masks."""

import io

import numpy as np
import pytest
from PIL import Image

from components.report.slice_image import largest_lesion_slice, overlay_svg, preview_png, thumbnail_png


def test_the_slice_with_most_lesion_is_shown():
    truth, prediction = np.zeros((5, 4, 4), bool), np.zeros((5, 4, 4), bool)
    assert largest_lesion_slice(truth, prediction) == 2
    prediction[4, 0, 0] = True
    assert largest_lesion_slice(truth, prediction) == 4
    truth[1, :2], truth[3, 0] = True, True
    assert largest_lesion_slice(truth, prediction) == 1


def test_an_svg_outline_follows_the_mask_and_closes_at_the_border():
    mask = np.zeros((4, 6), bool)
    mask[0:2, 0:3] = True
    svg = overlay_svg("x", np.zeros((4, 6), np.int16), mask, np.zeros_like(mask), (2.0, 1.0)).decode()
    assert 'viewBox="0 0 6 8"' in svg
    assert svg.count("<path") == 1
    (path,) = (part.split('"')[0] for part in svg.split(' d="')[1:])
    points = np.array([point.split() for point in path.strip("MZ").split("L")], float)
    assert (points[:, 0].min(), points[:, 0].max()) == (0, 3)
    assert (points[:, 1].min(), points[:, 1].max()) == (0, 4)


def test_a_thumbnail_outlines_even_a_single_voxel_at_its_place():
    mask = np.zeros((512, 512), np.uint8)
    mask[128, 384] = 1
    pixels = np.asarray(Image.open(io.BytesIO(thumbnail_png(np.zeros_like(mask), mask, (0.7, 0.7)))).convert("RGB"))
    rows, columns = np.nonzero(np.ptp(pixels.astype(int), axis=2))
    assert pixels.shape[:2] == (192, 192)
    np.testing.assert_allclose([rows.mean(), columns.mean()], [48, 144], atol=1)


@pytest.mark.parametrize("lesion", [slice(0, 2), slice(0, 0), slice(None)])
def test_a_preview_shows_partial_empty_and_full_masks(lesion):
    mask = np.zeros((10, 10, 4), np.uint8)
    mask[lesion] = 1
    image = Image.open(io.BytesIO(preview_png(np.zeros(mask.shape, np.int16), mask, (1.0, 2.0, 3.0))))
    plain, outlined = np.split(np.asarray(image.convert("RGB")).astype(int), 2, axis=1)
    assert image.height == pytest.approx(image.width, abs=2)  # two images of 10 × 20 mm side by side
    assert not np.ptp(plain, axis=2).any()
    assert np.ptp(outlined, axis=2).any() == mask.any()
