"""Lesions found, missed and invented: by hand, and against a flood fill that is written out."""

import numpy as np
import pytest

from components.ct.lesions import LesionDetection, detect_lesions


def parts(mask: np.ndarray) -> list[set[tuple[int, ...]]]:
    """Connected parts by flood fill over the 26 neighbours."""
    left = {tuple(map(int, at)) for at in np.argwhere(mask)}
    found = []
    while left:
        front = [left.pop()]
        part = set(front)
        while front:
            z, y, x = front.pop()
            near = {(z + a, y + b, x + c) for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)} & left
            left -= near
            part |= near
            front += near
        found.append(part)
    return found


@pytest.mark.parametrize("seed", range(25))
def test_random_masks_give_what_a_flood_fill_gives(seed):
    draw = np.random.default_rng(seed)
    shape = tuple(draw.integers(1, 9, 3))
    truth, prediction = draw.random(shape) < 0.08, draw.random(shape) < 0.08
    marked, lesion = ({tuple(map(int, at)) for at in np.argwhere(mask)} for mask in (prediction, truth))
    expected = LesionDetection(
        lesions=len(parts(truth)),
        found=sum(bool(part & marked) for part in parts(truth)),
        false_lesions=sum(not part & lesion for part in parts(prediction)),
    )
    assert detect_lesions(truth, prediction) == expected


def test_voxels_that_share_a_corner_are_one_lesion():
    truth = np.zeros((3, 3, 3), bool)
    truth[0, 0, 0] = truth[1, 1, 1] = truth[2, 2, 2] = True
    assert detect_lesions(truth, truth) == LesionDetection(lesions=1, found=1, false_lesions=0)


def test_one_large_prediction_finds_two_lesions_and_is_no_false_one():
    truth, prediction = np.zeros((1, 1, 9), bool), np.zeros((1, 1, 9), bool)
    truth[..., 1] = truth[..., 5] = truth[..., 8] = True
    prediction[..., 0:6] = True
    assert detect_lesions(truth, prediction) == LesionDetection(lesions=3, found=2, false_lesions=0)


def test_empty_masks_have_no_lesions():
    empty, one = np.zeros((2, 2, 2), bool), np.ones((2, 2, 2), bool)
    assert detect_lesions(empty, empty) == LesionDetection(0, 0, 0)
    assert detect_lesions(one, empty) == LesionDetection(1, 0, 0)
    assert detect_lesions(empty, one) == LesionDetection(0, 0, 1)
