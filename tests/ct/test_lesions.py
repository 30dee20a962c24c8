"""Lesions: by hand, and against a flood fill."""

import numpy as np
import pytest

from components.ct.lesions import Burden, LesionDetection, Lesions, detect_lesions, measure_burden, remove_small_lesions


def components(mask: np.ndarray) -> list[set[tuple[int, ...]]]:
    """Find connected components by flood fill over the 26 neighbors."""
    remaining = {tuple(map(int, at)) for at in np.argwhere(mask)}
    parts = []
    while remaining:
        front = [remaining.pop()]
        part = set(front)
        while front:
            z, y, x = front.pop()
            near = {(z + a, y + b, x + c) for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)} & remaining
            remaining -= near
            part |= near
            front += near
        parts.append(part)
    return parts


@pytest.mark.parametrize("seed", range(25))
def test_random_masks_match_a_flood_fill(seed):
    draw = np.random.default_rng(seed)
    shape = tuple(draw.integers(1, 9, 3))
    truth, prediction = draw.random(shape) < 0.08, draw.random(shape) < 0.08
    marked, lesion = ({tuple(map(int, at)) for at in np.argwhere(mask)} for mask in (prediction, truth))
    expected = LesionDetection(
        lesions=len(components(truth)),
        lesions_found=sum(bool(part & marked) for part in components(truth)),
        false_lesions=sum(not part & lesion for part in components(prediction)),
    )
    assert detect_lesions(truth, prediction) == expected


def test_a_large_prediction_finds_two_lesions_and_is_not_a_false_one():
    truth, prediction = np.zeros((1, 1, 9), bool), np.zeros((1, 1, 9), bool)
    truth[..., 1] = truth[..., 5] = truth[..., 8] = True
    prediction[..., 0:6] = True
    assert detect_lesions(truth, prediction) == LesionDetection(lesions=3, lesions_found=2, false_lesions=0)


def test_empty_masks_have_no_lesions():
    empty, one = np.zeros((2, 2, 2), bool), np.ones((2, 2, 2), bool)
    assert detect_lesions(empty, empty) == LesionDetection(lesions=0, lesions_found=0, false_lesions=0)
    assert detect_lesions(one, empty) == LesionDetection(lesions=1, lesions_found=0, false_lesions=0)
    assert detect_lesions(empty, one) == LesionDetection(lesions=0, lesions_found=0, false_lesions=1)


def test_lesions_are_cropped_to_their_box_and_sized():
    mask = np.zeros((9, 9, 9), np.uint8)
    mask[1, 2, 3] = mask[2, 3, 4] = 1
    mask[4, 5:8, 5] = 255
    lesions = Lesions.from_mask(mask)
    assert lesions.box == (slice(1, 5), slice(2, 8), slice(3, 6))
    assert sorted(lesions.sizes) == [2, 3]
    assert (lesions.count, lesions.voxels, lesions.largest) == (2, 5, 3)
    none = Lesions.from_mask(np.zeros((2, 3, 3)))
    assert (none.count, none.voxels, none.largest, none.labels.size) == (0, 0, 0, 0)


@pytest.fixture
def mask():
    """Voxels of lesions: one of eight, one of two that touch at a corner, and a single one."""
    mask = np.zeros((10, 10, 4), np.uint8)
    mask[0:2, 0:2, 0:2] = 1
    mask[5, 5, 1] = mask[6, 6, 2] = 1
    mask[9, 9, 3] = 1
    return mask


@pytest.mark.parametrize(
    ("min_ml", "voxels"), [(0, 11), (0.1, 11), (0.15, 10), (0.2, 10), (0.3, 8), (0.8, 8), (0.9, 0)]
)
def test_lesions_below_the_minimum_volume_are_removed(mask, min_ml, voxels):
    filtered = remove_small_lesions(mask, voxel_ml=0.1, min_ml=min_ml)
    assert filtered.sum() == voxels
    assert filtered.dtype == np.uint8
    assert mask.sum() == 11


def test_a_burden_is_in_milliliters_percent_and_slices(mask):
    assert measure_burden(mask, 0.5) == Burden(lesion_ml=5.5, lesion_percent=2.75, slices_affected=4, slices=4)
