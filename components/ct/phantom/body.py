"""The body around the lungs: skin, fat, muscle, bones, heart and great vessels."""

from dataclasses import dataclass

import numpy as np
from numpy.random import default_rng

from components.ct.grid import AIR_HU
from components.ct.phantom.scan import Scan, Slices, ellipse, noise, paint


@dataclass(frozen=True)
class Body:
    """Body dimensions of one patient, in mm and HU."""

    half_width: float
    half_depth: float
    fat: float
    lung_height: float
    heart: float
    blood_hu: float  # 40 without contrast
    lung_hu: float
    fluid_y: float  # pleural fluid collects behind this plane
    entropy: tuple[int, int]  # cohort seed and patient index, for the random anatomy

    @property
    def spine_y(self) -> float:
        """Center of the vertebrae."""
        return self.half_depth - self.fat - 35

    @classmethod
    def draw(cls, seed: int, patient: int) -> "Body":
        """Draw the dimensions of one patient."""
        rng = default_rng([seed, patient, 0])
        half_width = rng.uniform(148, 185)
        return cls(
            half_width=half_width,
            half_depth=half_width * rng.uniform(0.64, 0.72),
            fat=rng.uniform(6, 18),
            lung_height=rng.uniform(200, 250),
            heart=rng.uniform(0.9, 1.12),
            blood_hu=rng.choice([40, 42, 45, 170, 260]),
            lung_hu=rng.uniform(-890, -800),
            fluid_y=rng.choice([999, 999, 999, 999, 62]),
            entropy=(seed, patient),
        )


def to_cavity(scan: Scan, body: Body) -> Slices:
    """Signed distance to the inside of the rib cage, which narrows toward the neck."""
    half_x, half_y = body.half_width - body.fat - 19, body.half_depth - body.fat - 17
    narrowing = 0.3 * np.clip(scan.z / body.lung_height - 0.45, 0, 1) ** 1.5
    return ellipse(scan, 0, -4, half_x, half_y, 2.3) - narrowing * half_y


def to_heart(scan: Scan, body: Body) -> Slices:
    """Signed distance to the heart, an ellipsoid with its apex to the left and front."""
    z = scan.z - 0.24 * body.lung_height
    x, y = scan.x - 20 + 18 * np.clip(z / 58, 0, 1), scan.y + 22 - 14 * np.clip(z / 58, 0, 1)
    along, across = 0.85 * x - 0.53 * y, 0.53 * x + 0.85 * y
    return (1 - np.sqrt((along / 66) ** 2 + (across / 46) ** 2 + (z / 58) ** 2) / body.heart) * 46


def draw_soft_tissue(scan: Scan, body: Body) -> Slices:
    """Draw everything but lungs and bones in HU: table, skin, fat, muscle, heart, great vessels, stomach."""
    rng = default_rng([*body.entropy, 3])
    hu = np.full(scan.shape, AIR_HU, np.float32)
    skin = ellipse(scan, 0, 0, body.half_width, body.half_depth, 2.4) + 4 * noise(scan, rng, 70)
    cavity, streaks, heart = to_cavity(scan, body), noise(scan, rng, 9), to_heart(scan, body)
    paint(hu, scan, 2.5 - np.abs(scan.y - body.half_depth - 14 + (scan.x / 60) ** 2), -150)
    paint(hu, scan, skin, 20)
    paint(hu, scan, skin - 2, -105 + 12 * streaks)
    muscle = np.minimum(np.maximum(skin - body.fat, cavity + 18) + 3 * streaks, skin - 5)
    paint(hu, scan, muscle, 48 + 8 * streaks)
    mediastinum = np.minimum(cavity, 26 - np.abs(scan.x) + 8 * streaks)
    paint(hu, scan, np.minimum(mediastinum, scan.z - 30), -85)  # mediastinal fat, before its contents
    paint(hu, scan, heart, 45)
    paint(hu, scan, heart - 9 + 4 * streaks, body.blood_hu)
    spine_y = body.spine_y
    base = np.minimum(scan.z - 0.35 * body.lung_height, 0.8 * body.lung_height - scan.z)
    paint(hu, scan, ellipse(scan, 25, spine_y - 20, 12, 12), body.blood_hu)  # the descending aorta
    for x, y, radius in ((-14, -22, 15), (16, -28, 14), (-22, -6, 9)):  # aorta, pulmonary trunk, vena cava
        paint(hu, scan, np.minimum(ellipse(scan, x, y, radius, radius), base), body.blood_hu)
    paint(hu, scan, np.minimum(ellipse(scan, 62, -30, 30, 24), -8 - scan.z), -900)  # gas in the stomach
    return hu


def add_bones(hu: Slices, scan: Scan, body: Body) -> None:
    """Paint ribs, shoulder blades, sternum, and vertebrae with discs and arches."""
    cavity, spine_y, side = to_cavity(scan, body), body.spine_y, np.abs(scan.x)
    marrow = 190 + 50 * noise(scan, default_rng([*body.entropy, 4]), 9)
    slope = (scan.z - 0.5 * scan.y) % 25 - 12.5
    rib = np.minimum(5.5 - np.sqrt((cavity + 8) ** 2 + (slope * 0.85) ** 2), side - 24)
    blade = np.minimum(np.minimum(2.5 - np.abs(cavity + 19), 34 - np.abs(side - 92)), scan.y - 30)
    sternum = ellipse(scan, 0, -spine_y - 30, 19, 6)
    for bone in (rib, np.minimum(blade, scan.z - 95), sternum):
        paint(hu, scan, bone, 520)
        paint(hu, scan, bone - 2, marrow)
    vertebra = ellipse(scan, 0, spine_y, 19, 16)
    disc = np.clip((np.abs((scan.z + 7) % 27 - 13.5) - 9.5) / 2, 0, 1)
    paint(hu, scan, vertebra, 420 - 330 * disc)
    paint(hu, scan, vertebra - 2, marrow - 100 * disc)
    arch = np.maximum(ellipse(scan, 0, spine_y + 22, 17, 13), ellipse(scan, 0, spine_y + 34, 4, 12))
    paint(hu, scan, np.maximum(arch, ellipse(scan, 0, spine_y + 20, 36, 5)), 380)
    paint(hu, scan, ellipse(scan, 0, spine_y + 21, 10, 8), 35)
