"""The voxel grid of a scan in patient coordinates, and drawing on it by signed distance."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.sparse import csr_array

Slices = NDArray[np.floating]  # float32 (z, rows, columns), see components.ct.grid


@dataclass(frozen=True)
class Scan:
    """Voxel centers in mm (x to the left, y to the back, z up from the lung base), and the file format of one scan."""

    z: Slices  # (n, 1, 1)
    y: Slices  # (1, rows, 1)
    x: Slices  # (1, 1, columns)
    spacing_mm: tuple[float, float, float]  # z, rows, columns
    orientation: str
    windowed: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        return self.z.size, self.y.size, self.x.size

    def inside(self, distance_mm: Slices) -> Slices:
        """Share of each voxel inside a border, from the signed distance to it."""
        return np.clip(distance_mm / self.spacing_mm[2] + 0.5, 0, 1)


def noise(scan: Scan, rng: Generator, length_mm: float) -> Slices:
    """Draw smooth noise of about unit variance: a cubic B-spline over a random lattice fixed to the patient."""
    shape = [int(extent_mm / length_mm) + 1 for extent_mm in (440, 520, 520)]
    field = 3 * rng.standard_normal(shape, dtype=np.float32)  # the spline weights reduce the amplitude to a third
    for centers, low_mm, nodes in zip((scan.z, scan.y, scan.x), (-80, -260, -260), shape, strict=True):
        position = (centers.ravel() - low_mm) / length_mm
        node = np.floor(position).astype(int)[:, None] + np.arange(-1, 3)
        distance = np.abs(position[:, None] - node)
        weight = np.where(distance < 1, 2 / 3 - distance**2 + distance**3 / 2, np.clip(2 - distance, 0, None) ** 3 / 6)
        ends = np.arange(0, node.size + 1, 4)
        # Sparse for reproducibility: threaded dense products round differently across machines.
        spline = csr_array((weight.ravel(), node.ravel() % nodes, ends), (len(node), nodes), np.float32)
        flat = spline @ field.reshape(nodes, -1)
        field = np.moveaxis(flat.reshape(-1, *field.shape[1:]), 0, -1)
    return np.ascontiguousarray(field)


def ellipse(scan: Scan, x: float, y: float, half_x: float, half_y: float, power: float = 2) -> Slices:
    """Signed distance in mm to an upright (super)ellipse, positive inside; accurate near its border."""
    radius = np.abs((scan.x - x) / half_x) ** power + np.abs((scan.y - y) / half_y) ** power
    return ((1 - radius ** (1 / power)) * min(half_x, half_y)).astype(np.float32)


def paint(hu: Slices, scan: Scan, distance_mm: Slices, value_hu: float | Slices) -> None:
    """Fill the region inside a border with `value_hu` in place, with partial volumes."""
    hu += scan.inside(distance_mm) * (value_hu - hu)
