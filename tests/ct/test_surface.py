"""Surface Dice and Hausdorff distance: by hand, and against the `surface-distance` package."""

import warnings

import numpy as np
import pytest
from surface_distance import metrics as independent

from components.ct.masks import bounding_box
from components.ct.surface import SurfaceAgreement, surface_agreement, weighted_percentile

SPACING_MM = (2.0, 0.5, 1.0)


def cube(shape=(12, 12, 12), at=(3, 3, 3), edge=4) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(start, start + edge) for start in at)] = True
    return mask


def package_values(truth, prediction, spacing_mm, tolerance_mm) -> tuple[float, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the package uses deprecated SciPy names
        distances = independent.compute_surface_distances(truth, prediction, spacing_mm)
    return (
        independent.compute_surface_dice_at_tolerance(distances, tolerance_mm),
        independent.compute_robust_hausdorff(distances, 95),
    )


@pytest.mark.parametrize("seed", range(40))
def test_random_masks_match_the_package(seed):
    draw = np.random.default_rng(seed)
    shape = tuple(draw.integers(1, 10, 3))
    truth, prediction = draw.random(shape) < draw.uniform(0.1, 0.9), draw.random(shape) < draw.uniform(0.1, 0.9)
    truth.flat[0] = prediction.flat[-1] = True
    spacing_mm = tuple(draw.uniform(0.3, 5, 3))
    agreement = surface_agreement(truth, prediction, spacing_mm, tolerance_mm=2.0)
    assert (agreement.surface_dice, agreement.hd95_mm) == pytest.approx(
        package_values(truth, prediction, spacing_mm, 2.0)
    )


def test_smooth_lesions_match_the_package():
    z, y, x = np.ogrid[:30, :40, :40]
    truth = ((z - 14) ** 2 + (y - 20) ** 2 + (x - 18) ** 2 < 100) | ((z - 5) ** 2 + (y - 8) ** 2 + (x - 30) ** 2 < 9)
    prediction = (z - 15) ** 2 + (y - 21) ** 2 + (x - 21) ** 2 < 121
    agreement = surface_agreement(truth, prediction, SPACING_MM)
    assert (agreement.surface_dice, agreement.hd95_mm) == pytest.approx(
        package_values(truth, prediction, SPACING_MM, 3.0)
    )
    assert 0 < agreement.surface_dice < 1


def test_a_mask_agrees_with_itself_even_at_the_border_of_the_scan():
    for mask in (cube(), cube(at=(0, 0, 0)), np.ones((2, 3, 4), bool), cube(edge=1)):
        assert surface_agreement(mask, mask, SPACING_MM, tolerance_mm=0.0) == SurfaceAgreement(1.0, 0.0)


@pytest.mark.parametrize(("axis", "spacing_mm"), list(enumerate(SPACING_MM)))
def test_two_voxels_apart_by_hand(axis, spacing_mm):
    # Four of the eight corners of each voxel are three steps from the other voxel, four are four steps.
    at = np.array([3, 3, 3])
    truth, prediction = cube(edge=1, at=at), cube(edge=1, at=at + 4 * np.eye(3, dtype=int)[axis])
    agreement = surface_agreement(truth, prediction, SPACING_MM, tolerance_mm=3 * spacing_mm)
    assert agreement.hd95_mm == pytest.approx(4 * spacing_mm)
    assert agreement.surface_dice == pytest.approx(0.5)


def test_a_distance_equal_to_the_tolerance_agrees():
    truth, prediction = cube(edge=1, at=(3, 3, 3)), cube(edge=1, at=(4, 3, 3))
    assert surface_agreement(truth, prediction, (1.0, 1.0, 1.0), tolerance_mm=1.0).surface_dice == 1.0
    assert surface_agreement(truth, prediction, (1.0, 1.0, 1.0), tolerance_mm=0.999).surface_dice == pytest.approx(0.5)


def test_empty_masks_agree_with_each_other_and_are_a_diagonal_from_others():
    empty = np.zeros((12, 12, 12), bool)
    assert surface_agreement(empty, empty, SPACING_MM) == SurfaceAgreement(1.0, 0.0)
    diagonal = 11 * (2.0**2 + 0.5**2 + 1.0**2) ** 0.5
    for pair in ((empty, cube()), (cube(), empty)):
        agreement = surface_agreement(*pair, SPACING_MM)
        assert agreement.surface_dice == 0.0
        assert agreement.hd95_mm == pytest.approx(diagonal)


def test_percentiles_are_weighted():
    values, weights = np.array([3.0, 1.0, 2.0]), np.array([1.0, 8.0, 1.0])
    assert [weighted_percentile(values, weights, percent) for percent in (80, 81, 100)] == [1.0, 2.0, 3.0]


def test_the_bounding_box_encloses_all_masks():
    first, second = np.zeros((5, 6, 7), bool), np.zeros((5, 6, 7), bool)
    assert bounding_box(first, second) is None
    first[1, 2, 3] = second[4, 0, 6] = True
    assert bounding_box(first) == (slice(1, 2), slice(2, 3), slice(3, 4))
    assert bounding_box(first, second) == (slice(1, 5), slice(0, 3), slice(3, 7))
