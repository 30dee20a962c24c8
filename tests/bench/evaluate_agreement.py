"""Compare every metric with an independent implementation on random and hand-made masks; print the largest differences.

The references are the `surface-distance` package for Dice and surfaces, a flood fill for lesions, and definitions
written out voxel by voxel or pair by pair for the rest.

Run: python -m tests.bench.evaluate_agreement [rounds]
"""

import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator
from statistics import fmean

import numpy as np
from surface_distance import metrics as package

from components.ct.lesions import detect_lesions
from components.ct.metrics import confusion
from components.ct.surface import surface_agreement
from components.evaluate.cohort import slice_auc
from components.evaluate.levels import LevelCounts
from tests.ct.test_lesions import components

SPACING_MM = (5.0, 0.7, 1.1)


def pairs(rounds: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield hand-made pairs, including masks at the border and of one voxel, then random ones. No mask is empty."""
    ball = sum((axis - 8) ** 2 for axis in np.ogrid[:16, :16, :16]) < 36
    corner, voxel = np.zeros_like(ball), np.zeros_like(ball)
    corner[:5, :5, :5] = voxel[8, 8, 8] = True
    yield from [(ball, ball), (ball, np.roll(ball, 2, axis=0)), (ball, corner), (corner, voxel), (ball, ~ball)]
    draw = np.random.default_rng(0)
    for _ in range(rounds):
        shape = tuple(draw.integers(2, 10, 3))
        pair = [draw.random(shape) < draw.uniform(0.02, 0.9) for _ in range(2)]
        for mask in pair:
            mask[tuple(draw.integers(0, edge) for edge in shape)] = True
        yield pair[0], pair[1]


def compare(truth: np.ndarray, prediction: np.ndarray, draw: np.random.Generator) -> Iterator[tuple[str, float, float]]:
    """Yield the name of each metric, our value and the reference."""
    ours = confusion(truth, prediction)
    voxels = list(zip(truth.ravel().tolist(), prediction.ravel().tolist(), strict=True))
    hits, predicted, lesion = voxels.count((True, True)), int(prediction.sum()), int(truth.sum())
    yield "Dice", ours.dice, package.compute_dice_coefficient(truth, prediction)
    yield "IoU", ours.iou, hits / (predicted + lesion - hits)
    yield "sensitivity", ours.sensitivity, hits / lesion
    yield "precision", ours.precision, hits / predicted
    true_negative = voxels.count((False, False))
    if true_negative + predicted - hits:
        yield "specificity", ours.specificity, true_negative / (true_negative + predicted - hits)
    distances = package.compute_surface_distances(truth, prediction, SPACING_MM)
    surface = surface_agreement(truth, prediction, SPACING_MM)
    yield "surface Dice at 3 mm", surface.surface_dice, package.compute_surface_dice_at_tolerance(distances, 3.0)
    yield "95 % Hausdorff mm", surface.hd95_mm, package.compute_robust_hausdorff(distances, 95)
    detection = detect_lesions(truth, prediction)
    predicted_voxels, lesion_voxels = (
        {tuple(map(int, at)) for at in np.argwhere(mask)} for mask in (prediction, truth)
    )
    yield "lesions", detection.lesions, len(components(truth))
    yield "lesions found", detection.lesions_found, sum(bool(lesion & predicted_voxels) for lesion in components(truth))
    yield "false lesions", detection.false_lesions, sum(not lesion & lesion_voxels for lesion in components(prediction))
    probability = np.clip(0.4 * truth + 0.6 * draw.random(truth.shape), 0, 1).astype(np.float32)
    yield from of_probabilities(truth, probability)


def of_probabilities(truth: np.ndarray, probability: np.ndarray) -> Iterator[tuple[str, float, float]]:
    """Yield the metrics of probabilities."""
    counts = LevelCounts()
    counts.add(probability, truth)
    error = 0.0
    for low in np.arange(16) / 16:
        here = (probability >= low) & ((probability < low + 1 / 16) | (low == 15 / 16))
        if here.any():
            error += here.mean() * abs(probability[here].mean(dtype=np.float64) - truth[here].mean())
    yield "calibration error (to 1/8192)", counts.reliability().expected_calibration_error, error
    has_lesion, peak = truth.any(axis=(1, 2)), probability.max(axis=(1, 2))
    if has_lesion.any() and not has_lesion.all():
        ordered = [(a > b) + (a == b) / 2 for a in peak[has_lesion] for b in peak[~has_lesion]]
        yield "slice AUC", slice_auc(has_lesion, peak) or 0.0, fmean(ordered)
    if not truth.all():
        differences = probability[truth][:, None] - probability[~truth]
        wins = (differences > 0).mean() + (differences == 0).mean() / 2
        yield "voxel AUC (of 256 levels)", counts.roc().auc, wins  # type: ignore[union-attr]


def main(rounds: int) -> None:
    """Print the table of docs/evaluation.md."""
    warnings.simplefilter("ignore")  # surface-distance uses deprecated NumPy and SciPy names
    differences: dict[str, list[float]] = defaultdict(list)
    draw = np.random.default_rng(1)
    for truth, prediction in pairs(rounds):
        for name, ours, other in compare(truth, prediction, draw):
            differences[name].append(abs(ours - other))
    print("| metric | pairs of masks | largest difference |\n|---|---|---|")
    for name, values in differences.items():
        print(f"| {name} | {len(values)} | {max(values):.1e} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
