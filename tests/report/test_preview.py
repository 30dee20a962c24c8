"""Previews of predicted masks."""

import numpy as np
import pytest

from components.report.slice_image import preview_png


@pytest.mark.parametrize("lesion", [slice(0, 2), slice(0, 0), slice(None)])
def test_a_preview_shows_partial_empty_and_full_masks(lesion):
    mask = np.zeros((10, 10, 4), np.uint8)
    mask[lesion] = 1
    assert preview_png(np.zeros(mask.shape, np.int16), mask, (1.0, 2.0, 3.0)).startswith(b"\x89PNG")
