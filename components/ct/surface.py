"""How well the surfaces of two lesion masks agree, in millimeters: normalized surface Dice and Hausdorff distance.

The surface is made of the small polygons that marching cubes lays between voxels, each with its own area, as
in Nikolov et al. (2018, arXiv:1809.04430) and their `surface-distance` package, whose table of areas is used
here. Distances come from a search tree over the surfaces' points instead of a distance map of the whole
volume: that takes a second where the map takes ten.

Where both masks are empty the surfaces agree: a surface Dice of 1, a distance of 0. Where one is, nothing
agrees: a surface Dice of 0, and as distance the scan's diagonal, the farthest that two voxels can lie apart.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree
from surface_distance.lookup_tables import create_table_neighbour_code_to_surface_area  # type: ignore[import-untyped]

from components.ct.masks import bounding_box

TOLERANCE_MM = 3.0  # about two voxels of a thick chest CT; beyond it readers would redraw an outline


@dataclass(frozen=True)
class SurfaceAgreement:
    """Two surfaces compared.

    Attributes:
        surface_dice: the share of both surfaces that lies within the tolerance of the other one, 0 to 1.
        hd95_mm: 95 % of each surface lies no farther from the other one than this.
    """

    surface_dice: float
    hd95_mm: float


def surface_agreement(
    truth: NDArray[np.bool_],
    prediction: NDArray[np.bool_],
    spacing_mm: tuple[float, float, float],
    tolerance_mm: float = TOLERANCE_MM,
) -> SurfaceAgreement:
    """Compare the surfaces of two 3-D masks of one shape.

    Args:
        truth: bool mask.
        prediction: bool mask.
        spacing_mm: size of a voxel along each axis.
        tolerance_mm: how far apart surfaces may lie and still agree.
    """
    box = bounding_box(truth, prediction)
    if box is None:
        return SurfaceAgreement(1.0, 0.0)
    true, predicted = _Surface.of(truth[box], spacing_mm), _Surface.of(prediction[box], spacing_mm)
    if not (len(true.points) and len(predicted.points)):
        diagonal = np.linalg.norm((np.array(truth.shape) - 1) * spacing_mm)
        return SurfaceAgreement(0.0, float(diagonal))
    sides = [(true.areas, true.distance_to(predicted)), (predicted.areas, predicted.distance_to(true))]
    near = sum(areas[distance <= tolerance_mm].sum() for areas, distance in sides)
    return SurfaceAgreement(
        float(near / sum(areas.sum() for areas, _ in sides)),
        max(weighted_percentile(distance, areas, 95) for areas, distance in sides),
    )


@dataclass(frozen=True)
class _Surface:
    """A mask's surface.

    Attributes:
        points: (n, 3) mm from the mask's corner.
        areas: (n,) mm² of polygons at each point.
        corners: (n,) indices of the points in `is_surface`.
        is_surface: flat map of all corners between voxels.
    """

    points: NDArray[np.float64]
    areas: NDArray[np.float64]
    corners: NDArray[np.int64]
    is_surface: NDArray[np.bool_]

    @classmethod
    def of(cls, mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> "_Surface":
        """Find the surface of a mask, empty or not."""
        codes = neighbor_codes(mask)
        # Neither 0, all background, nor 255, all lesion: less one, both are beyond the others.
        is_surface = (codes - np.uint8(1) < 254).ravel()
        corners = np.flatnonzero(is_surface)
        areas = create_table_neighbour_code_to_surface_area(spacing_mm)[codes.ravel()[corners]]
        points = np.stack(np.unravel_index(corners, codes.shape), axis=-1) * np.asarray(spacing_mm)
        return cls(points, areas, corners, is_surface)

    def distance_to(self, other: "_Surface") -> NDArray[np.float64]:
        """Distance in mm of each point to the other surface, of a mask of the same shape."""
        distance = np.zeros(len(self.points))
        # Where both run through the same corner there is nothing to search.
        apart = np.flatnonzero(~other.is_surface[self.corners])
        if not len(apart):
            return distance
        tree = KDTree(other.points, leafsize=32, balanced_tree=False, compact_nodes=False)
        distance[apart], _ = tree.query(self.points[apart], workers=-1)
        return distance


def neighbor_codes(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Which of the eight voxels around each corner are lesion, a bit each, the first voxel's the highest.

    Args:
        mask: (a, b, c) bool; around it there is none.

    Returns:
        (a + 1, b + 1, c + 1) uint8.
    """
    voxels = np.pad(mask, 1).view(np.uint8)
    codes = np.zeros([edge - 1 for edge in voxels.shape], np.uint8)
    for bit, step in enumerate(product((0, 1), repeat=3)):
        window = tuple(slice(start, start + edge) for start, edge in zip(step, codes.shape, strict=True))
        codes |= voxels[window] << (7 - bit)
    return codes


def weighted_percentile(values: NDArray, weights: NDArray, percent: float) -> float:
    """The least value that `percent` % of the weight lies at or below."""
    order = np.argsort(values)
    share = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][min(int(np.searchsorted(share, percent / 100)), len(values) - 1)])
