"""Lesions: subpleural ground glass and consolidation, and the mask that a reader would draw."""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from components.ct.phantom.lungs import Lungs
from components.ct.phantom.scan import Scan, Slices, noise


def add_lesions(
    parenchyma: Slices, scan: Scan, lungs: Lungs, share_of_lung: float | None, rng: Generator
) -> NDArray[np.uint8]:
    """Increase the density of infected lung in place, and return the mask with a smoother outline, as readers draw it.

    Lesions are the points of a landscape above a level. The landscape has hills around subpleural seed points, a rise
    toward the pleura, and noise; the level is the quantile of the requested share of the lung.
    """
    lung = np.flatnonzero(lungs.border > -scan.spacing_mm[2])
    inside = lungs.border.ravel()[lung] > 0
    hills = _landscape(scan, lungs, lung, share_of_lung, rng)
    ragged = hills + 0.13 * noise(scan, rng, 6).ravel()[lung]
    count = int(rng.integers(110, 150)) if share_of_lung is None else share_of_lung * inside.sum()
    level = np.partition(hills[inside], -int(count) - 1)[-int(count) - 1]
    mask = np.zeros(scan.shape, np.uint8)
    mask.ravel()[lung[inside & (hills > level)]] = 1

    softness = rng.uniform(0.03, 0.08)
    core_offset = rng.choice([0.5, 0.7, 1.1]) if share_of_lung else 0.8
    core = level + core_offset + 0.3 * noise(scan, rng, 14).ravel()[lung]
    ground_glass = rng.uniform(-520, -370) + 50 * noise(scan, rng, 20).ravel()[lung]
    ground_glass += rng.choice([20, 60]) * noise(scan, rng, 4).ravel()[lung]  # fine, or crazy paving
    consolidation = rng.uniform(-90, 30)
    hu = parenchyma.ravel()[lung]
    hu += (np.clip(ground_glass, -620, -280) - hu) * _sigmoid((ragged - level) / softness)
    pleural_weight = np.exp(-((lungs.depth.ravel()[lung] / 7) ** 2))  # dense lesions stay hazy below the pleura
    hu += (consolidation - hu) * _sigmoid((ragged - core) / softness) * (1 - 0.85 * pleural_weight)
    parenchyma.ravel()[lung] = hu
    return mask


def _sigmoid(value: Slices) -> Slices:
    return 1 / (1 + np.exp(-np.clip(value, -30, 30)))


def _landscape(scan: Scan, lungs: Lungs, lung: NDArray[np.intp], share_of_lung: float | None, rng: Generator) -> Slices:
    """Dimensionless height of the lesion landscape at the flat indices `lung`."""
    where = np.unravel_index(lung, scan.shape)
    points = [axis.ravel()[index] for axis, index in zip((scan.z, scan.y, scan.x), where, strict=True)]
    depth = lungs.depth.ravel()[lung]
    weight = np.exp(-depth / 9) * np.exp(points[1] / 90) * (lungs.border.ravel()[lung] > 4)
    count = 1 if share_of_lung is None else int(rng.integers(10, 28))
    centers = rng.choice(lung.size, count, replace=False, p=weight / weight.sum())
    hills = np.full(lung.size, -np.inf, np.float32)
    for center in centers:
        radius = rng.uniform(9, 12) if share_of_lung is None else rng.lognormal(2.75, 0.4)
        squared_mm = sum((axis - axis[center]) ** 2 for axis in points)
        np.maximum(hills, -np.sqrt(squared_mm) / radius, out=hills)
    if share_of_lung is not None:
        hills += 0.4 * noise(scan, rng, 18).ravel()[lung] + 0.6 * np.exp(-depth / 9)
    return hills
