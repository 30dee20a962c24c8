"""Bronchi and pulmonary vessels, which branch through the lungs and share their HU with lesions."""

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from components.ct.phantom.body import Body
from components.ct.phantom.scan import Scan, Slices


def add_trees(hu: Slices, scan: Scan, body: Body) -> None:
    """Add bronchi and pulmonary vessels, which branch from both hila, to the lungs' HU in place."""
    rng = default_rng([*body.entropy, 6])
    wall, lumen = _tree(scan, body, rng, 4, 2.4, 1.1)
    vessels, _ = _tree(scan, body, rng, 7, 3.9, 0)
    for share, value_hu in ((wall, -250), (lumen, -980), (vessels, max(body.blood_hu, 40))):
        hu += share * (value_hu - hu)


def _tree(
    scan: Scan, body: Body, rng: Generator, generations: int, radius_mm: float, wall_mm: float
) -> tuple[Slices, Slices]:
    """Share of each voxel that a branching tree fills: with its wall, and its lumen alone."""
    side = np.repeat([-1.0, 1.0], 9)
    start = np.stack([0.45 * body.lung_height + 8 * rng.standard_normal(side.size), 6 + 0 * side, 34 * side], 1)
    direction = rng.standard_normal((side.size, 3)) * [1.3, 0.9, 0.5] + np.outer(side, [0, 0, 0.7])
    filled = [np.zeros(scan.shape, np.float32) for _ in range(2)]
    for generation in range(generations):
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        step = direction * (30 * 0.86**generation * rng.uniform(0.6, 1.2, (len(direction), 1)))
        radius = radius_mm * 0.77**generation
        _fill_tubes(filled[0], scan, start, step, radius + wall_mm, rng)
        if wall_mm:
            _fill_tubes(filled[1], scan, start, step, radius, rng)
        start, direction = np.repeat(start + step, 2, 0), np.repeat(direction, 2, 0)
        direction += 0.5 * rng.standard_normal(direction.shape)
    return np.clip(filled[0], 0, 1), np.clip(filled[1], 0, 1)


def _fill_tubes(filled: Slices, scan: Scan, start: NDArray, step: NDArray, radius: float, rng: Generator) -> None:
    """Add the share of each voxel that straight tubes fill, by points strewn through them: even the finest
    vessel leaves its partial volume. `start` and `step` are (n, 3) in mm."""
    lengths = np.linalg.norm(step, axis=1)
    voxel_mm3 = float(np.prod(scan.spacing_mm))
    per_tube = int(lengths.mean() * (8 / min(scan.spacing_mm) + 6 * np.pi * radius**2 / voxel_mm3)) + 1
    along = rng.random((len(start), per_tube, 1))
    off = rng.standard_normal((len(start), per_tube, 3)) * (radius / 2)
    points = start[:, None] + along * step[:, None] + off
    share = np.repeat(np.pi * radius**2 * lengths / per_tube / voxel_mm3, per_tube)
    first = np.array([scan.z.min(), scan.y.min(), scan.x.min()])
    voxels = np.rint((points.reshape(-1, 3) - first) / scan.spacing_mm).astype(int)
    within = np.all((voxels >= 0) & (voxels < scan.shape), axis=1)
    flat = np.ravel_multi_index(tuple(voxels[within].T), scan.shape)
    filled += np.bincount(flat, share[within], filled.size).reshape(scan.shape)
