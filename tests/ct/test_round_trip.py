"""The grid round trip: a mask against itself after resampling to the network's grid and back."""

import numpy as np
import pytest

from components.ct.grid import GridFit, fit_mask
from components.ct.lesions import Lesions
from components.ct.metrics import dice
from components.ct.round_trip import THRESHOLDS, round_trip_dice
from components.validate.resize_audit import audit_resize


def best_dice(mask: np.ndarray, size: int) -> float:
    """The definition, on whole slices."""
    fit = GridFit.for_slices(mask, size)
    share = fit.invert(fit_mask(mask, size)) / 255
    return max(dice(mask, share >= threshold - 1e-4) for threshold in THRESHOLDS)


def small_lesions() -> np.ndarray:
    """Lesions of 2 × 3 pixels in slices of 128 × 128: 6 of the 16 pixels of a cell of a 32 × 32 grid."""
    mask = np.zeros((3, 128, 128), bool)
    for index in range(3):
        for corner in range(9, 120, 20):
            mask[index, corner : corner + 2, corner : corner + 3] = True
    return mask


def test_small_lesions_have_the_same_round_trip_dice_in_the_audit_and_the_evaluation():
    mask = small_lesions()
    audit = audit_resize("case", mask, Lesions.from_mask(mask), 32)
    assert audit.dice_at_half == 0
    assert audit.round_trip_dice == round_trip_dice(mask, 32) == pytest.approx(best_dice(mask, 32))
    assert audit.round_trip_dice > 0.5


def test_the_round_trip_dice_matches_its_definition():
    draw = np.random.default_rng(0)
    mask = np.zeros((40, 50, 70), bool)
    mask[1, 10:31, 20:43] = mask[2, 5:8, 60:70] = True
    mask[3] = draw.random((50, 70)) < 0.2
    mask[20:38, 30:35, 2:9] = True
    assert round_trip_dice(mask, 32) == pytest.approx(best_dice(mask, 32))
    assert 0 < round_trip_dice(mask, 32) < 1


@pytest.mark.parametrize("size", [8, 32, 128])
def test_the_margin_around_a_lesion_covers_all_that_the_round_trip_marks(size):
    draw = np.random.default_rng(2)
    for _ in range(20):
        mask = np.zeros((3, 50, 70), bool)
        row, column = draw.integers(0, 48), draw.integers(0, 68)
        mask[1, row : row + draw.integers(1, 20), column : column + draw.integers(1, 20)] = True
        assert round_trip_dice(mask, size) == pytest.approx(best_dice(mask, size))


def test_a_grid_of_the_scans_size_and_an_empty_mask_score_1():
    mask = np.random.default_rng(1).random((2, 32, 32)) < 0.3
    assert round_trip_dice(mask, 32) == 1.0
    assert round_trip_dice(np.zeros((2, 32, 32), bool), 8) == 1.0
