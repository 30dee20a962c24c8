"""One patient's lungs without lesions: their border, their tissue and the main airways."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator, default_rng

from components.ct.phantom.body import Body, to_cavity, to_heart
from components.ct.phantom.scan import Scan, Slices, ellipse, noise, paint


@dataclass(frozen=True)
class Lungs:
    """Signed distances to the lungs' border (positive inside) and depth below the outer pleura, in mm."""

    border: Slices
    depth: Slices
    above_diaphragm: Slices


def draw_lungs(scan: Scan, body: Body) -> Lungs:
    """Both lungs: the rib cage without diaphragm, mediastinum, heart, spine and pleural fluid."""
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
    """Lung without lesions or vessels, in HU: heavier towards the back, patchy, with dependent density."""
    fixed = default_rng([*body.entropy, 5])
    patchy = noise(scan, fixed, 22)
    hu = body.lung_hu + 28 * patchy + 14 * noise(scan, fixed, 7) + rng.uniform(20, 60) * scan.y / 80
    fissure = np.abs(scan.z - 110 - 0.9 * scan.y + 8 * noise(scan, fixed, 40)) / 2
    hu += 90 * np.clip(1.5 - fissure, 0, 1)
    hu -= 70 * fixed.choice([0, 0, 1]) * np.clip(noise(scan, fixed, 11) - 0.6, 0, 1)  # emphysema
    dependent = np.exp(-lungs.depth / 6) / (1 + np.exp((38 - scan.y) / 8))
    hu += rng.choice([40, 90, 150, 220]) * dependent * np.clip(0.8 + 0.5 * patchy, 0, 1.5)
    return hu.astype(np.float32)


def add_main_airways(hu: Slices, scan: Scan, body: Body) -> None:
    """Paint trachea and main bronchi, each a tube around a straight line."""
    carina = np.array([0.56 * body.lung_height, 10, 0])
    ends = ([body.lung_height + 60, 2, 0], [0.47 * body.lung_height, 12, -38], [0.46 * body.lung_height, 12, 40])
    away = [scan.z - carina[0], scan.y - carina[1], scan.x - carina[2]]
    lumen = np.full(scan.shape, -np.inf, np.float32)
    for end, radius in zip(ends, (8.5, 6.5, 6.0), strict=True):
        line = np.array(end) - carina
        along = np.clip(sum(a * b for a, b in zip(away, line, strict=True)) / (line @ line), 0, 1)
        distance = np.sqrt(sum((a - along * b) ** 2 for a, b in zip(away, line, strict=True)))
        np.maximum(lumen, radius - distance, out=lumen)
    paint(hu, scan, lumen + 1.5, 20)
    paint(hu, scan, lumen, -990)
