"""Lesion volumes and the clearing of small ones, by hand."""

import numpy as np
import pytest

from components.ct.lesion_burden import Burden, burden, remove_small_lesions
from components.report.slice_image import preview_png


@pytest.fixture
def mask():
    """Ten by ten by four voxels: a lesion of eight, one of two that touch at a corner, and a single voxel."""
    mask = np.zeros((10, 10, 4), np.uint8)
    mask[0:2, 0:2, 0:2] = 1
    mask[5, 5, 1] = mask[6, 6, 2] = 1
    mask[9, 9, 3] = 1
    return mask


def test_a_burden_is_counted_in_milliliters_percent_and_slices(mask):
    assert burden(mask, voxel_ml=0.5) == Burden(lesion_ml=5.5, lesion_percent=2.75, slices_affected=4, slices=4)


@pytest.mark.parametrize(
    ("min_ml", "voxels"), [(0, 11), (0.1, 11), (0.15, 10), (0.2, 10), (0.3, 8), (0.8, 8), (0.9, 0)]
)
def test_lesions_under_the_least_volume_are_cleared_whole(mask, min_ml, voxels):
    assert remove_small_lesions(mask, 0.1, min_ml).sum() == voxels


@pytest.mark.parametrize("fill", ["some", "none", "all"])
def test_a_preview_is_drawn_for_every_kind_of_mask(mask, fill):
    drawn = {"some": mask, "none": np.zeros_like(mask), "all": np.ones_like(mask)}[fill]
    assert preview_png(np.zeros(mask.shape, np.int16), drawn, (1.0, 2.0, 3.0)).startswith(b"\x89PNG")
