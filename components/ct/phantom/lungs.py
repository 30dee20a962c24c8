"""Lungs without lesions: border, parenchyma, airways, and vessels that share their HU with lesions."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from components.ct.phantom.body import Body, to_cavity, to_heart
from components.ct.phantom.scan import Scan, Slices, ellipse, noise, paint


@dataclass(frozen=True)
class Lungs:
    """Signed distance to the lung border (positive inside), depth below the outer pleura, and height, in mm."""

    border: Slices
    depth: Slices
    above_diaphragm: Slices


def draw_lungs(scan: Scan, body: Body) -> Lungs:
    """Draw both lungs: the rib cage minus diaphragm, mediastinum, heart, spine and pleural fluid."""
    rng = default_rng([*body.entropy, 2])
    side = np.abs(scan.x)
    dome = np.exp(-(((side - 72) / 62) ** 2) - ((scan.y + 12) / 70) ** 2)
    diaphragm = (62 + np.where(scan.x < 0, 12, 0)) * dome - 14 + 3 * noise(scan, rng, 40)
    top = body.lung_height - 0.016 * ((side - 45) ** 2 + (scan.y - 10) ** 2)
    above_diaphragm = (scan.z - diaphragm) * 0.75
    depth = np.minimum(np.minimum(to_cavity(scan, body), above_diaphragm), (top - scan.z) * 0.5)
    spine_y = body.spine_y
    middle = 7 + 24 * np.exp(-(((scan.y - 8) / 42) ** 2)) + 4 * noise(scan, rng, 45) - side
    solid = np.maximum(middle, np.where(scan.y > spine_y, 22 - side, -99))
    solid = np.maximum(solid, ellipse(scan, 0, spine_y, 23, 21))
    solid = np.maximum(solid, ellipse(scan, 25, spine_y - 20, 14, 14))  # the descending aorta
    solid = np.maximum(solid, to_heart(scan, body) + 4)
    border = np.minimum(depth, -solid) + 1.2 * noise(scan, rng, 15)
    fluid = np.where(scan.x < 0, body.fluid_y, body.fluid_y + 14) + 0.35 * scan.z - scan.y
    border = np.minimum(border, fluid).astype(np.float32)
    return Lungs(border, np.maximum(depth, 0).astype(np.float32), above_diaphragm.astype(np.float32))


def draw_parenchyma(scan: Scan, body: Body, lungs: Lungs, rng: Generator) -> Slices:
    """Draw lung tissue in HU: denser toward the back, patchy, with dependent density."""
    patient_rng = default_rng([*body.entropy, 5])
    patches = noise(scan, patient_rng, 22)
    hu = body.lung_hu + 28 * patches + 14 * noise(scan, patient_rng, 7) + rng.uniform(20, 60) * scan.y / 80
    fissure = np.abs(scan.z - 110 - 0.9 * scan.y + 8 * noise(scan, patient_rng, 40)) / 2
    hu += 90 * np.clip(1.5 - fissure, 0, 1)
    hu -= 70 * patient_rng.choice([0, 0, 1]) * np.clip(noise(scan, patient_rng, 11) - 0.6, 0, 1)  # emphysema
    dependent = np.exp(-lungs.depth / 6) / (1 + np.exp((38 - scan.y) / 8))
    hu += rng.choice([40, 90, 150, 220]) * dependent * np.clip(0.8 + 0.5 * patches, 0, 1.5)
    return hu.astype(np.float32)


def add_main_airways(hu: Slices, scan: Scan, body: Body) -> None:
    """Paint trachea and main bronchi as straight tubes."""
    carina = np.array([0.56 * body.lung_height, 10, 0])
    ends = ([body.lung_height + 60, 2, 0], [0.47 * body.lung_height, 12, -38], [0.46 * body.lung_height, 12, 40])
    offsets = [scan.z - carina[0], scan.y - carina[1], scan.x - carina[2]]
    lumen = np.full(scan.shape, -np.inf, np.float32)
    for end, radius in zip(ends, (8.5, 6.5, 6.0), strict=True):
        line = np.array(end) - carina
        along = np.clip(sum(a * b for a, b in zip(offsets, line, strict=True)) / (line @ line), 0, 1)
        distance = np.sqrt(sum((a - along * b) ** 2 for a, b in zip(offsets, line, strict=True)))
        np.maximum(lumen, radius - distance, out=lumen)
    paint(hu, scan, lumen + 1.5, 20)
    paint(hu, scan, lumen, -990)


def add_trees(hu: Slices, scan: Scan, body: Body) -> None:
    """Add bronchi and pulmonary vessels, which branch from both hila, in place."""
    rng = default_rng([*body.entropy, 6])
    wall, lumen = _tree(scan, body, rng, 4, 2.4, 1.1)
    vessels, _ = _tree(scan, body, rng, 7, 3.9, 0)
    for share, value_hu in ((wall, -250), (lumen, -980), (vessels, max(body.blood_hu, 40))):
        hu += share * (value_hu - hu)


def _tree(
    scan: Scan, body: Body, rng: Generator, generations: int, radius_mm: float, wall_mm: float
) -> tuple[Slices, Slices]:
    """Share of each voxel that a branching tree fills, with its wall and without."""
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
    """Add the share of each voxel that straight tubes from `start` along `step`, (n, 3) mm, fill, by random points."""
    lengths = np.linalg.norm(step, axis=1)
    voxel_mm3 = float(np.prod(scan.spacing_mm))
    per_tube = int(lengths.mean() * (8 / min(scan.spacing_mm) + 6 * np.pi * radius**2 / voxel_mm3)) + 1
    along = rng.random((len(start), per_tube, 1))
    offset = rng.standard_normal((len(start), per_tube, 3)) * (radius / 2)
    points = start[:, None] + along * step[:, None] + offset
    share = np.repeat(np.pi * radius**2 * lengths / per_tube / voxel_mm3, per_tube)
    first = np.array([scan.z.min(), scan.y.min(), scan.x.min()])
    voxels = np.rint((points.reshape(-1, 3) - first) / scan.spacing_mm).astype(int)
    is_inside = np.all((voxels >= 0) & (voxels < scan.shape), axis=1)
    flat = np.ravel_multi_index(tuple(voxels[is_inside].T), scan.shape)
    filled += np.bincount(flat, share[is_inside], filled.size).reshape(scan.shape)
