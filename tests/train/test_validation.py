"""Validation Dice by case, worked out by hand."""

import numpy as np
import pytest

from components.train.examples import ValidationSlices
from components.train.validation import mean_case_dice


def validation(lesion: list[list[int]], case_ids: list[str]) -> ValidationSlices:
    """Slices of one row each."""
    shares = np.array(lesion, np.uint8)[:, None, :]
    return ValidationSlices(np.zeros(shares.shape, np.int16), shares, np.array(case_ids))


def test_slices_of_a_case_are_taken_together_and_cases_averaged():
    slices = validation([[255, 255, 0], [0, 0, 0], [255, 0, 0]], ["a", "a", "b"])
    probability = np.array([[[0.9, 0.1, 0.9]], [[0.1, 0.9, 0.1]], [[0.9, 0.1, 0.1]]], np.float32)
    dice_a = 2 * 1 / (2 + 3)
    assert mean_case_dice(probability, slices) == pytest.approx((dice_a + 1) / 2)


def test_half_a_cell_of_lesion_counts_half():
    slices = validation([[255, 51]], ["a"])
    assert mean_case_dice(np.array([[[0.9, 0.9]]], np.float32), slices) == pytest.approx(2 * 1.2 / (1.2 + 2))


def test_a_case_without_lesion_does_not_drown_the_others():
    slices = validation([[255, 0], [0, 0]], ["a", "healthy"])
    assert mean_case_dice(np.array([[[0.9, 0.1]], [[0.9, 0.1]]], np.float32), slices) == pytest.approx(1)


def test_where_no_case_has_lesion_finding_none_is_right():
    slices = validation([[0, 0], [0, 0]], ["a", "b"])
    assert mean_case_dice(np.array([[[0.1, 0.1]], [[0.9, 0.1]]], np.float32), slices) == pytest.approx(0.5)
