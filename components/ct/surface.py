"""Agreement of the surfaces of two lesion masks: normalized surface Dice and 95 % Hausdorff distance.

Surface elements are those of marching cubes, weighted by area, as in Nikolov et al. (2018, arXiv:1809.04430) and their
`surface-distance` package, whose area table is used. Distances come from a KD-tree over the surface points instead of
a distance map of the whole volume, which takes ten times as long.

Two empty masks agree: a surface Dice of 1 and a distance of 0. If one mask is empty, the surface Dice is 0 and the
distance is the diagonal of the scan, the largest possible one.
"""

from dataclasses import dataclass
from itertools import product
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree
from surface_distance.lookup_tables import create_table_neighbour_code_to_surface_area  # type: ignore[import-untyped]

from components.ct.masks import bounding_box

TOLERANCE_MM = 3.0  # about two voxels of a thick-slice chest CT; readers would redraw larger deviations


@dataclass(frozen=True)
class SurfaceAgreement:
    """Agreement of two surfaces."""

    surface_dice: float  # share of both surfaces within the tolerance of the other, 0 to 1
    hd95_mm: float  # the larger of the two directed 95th percentiles of the distance


def surface_agreement(
    truth: NDArray[np.bool_],
    prediction: NDArray[np.bool_],
    spacing_mm: tuple[float, float, float],
    tolerance_mm: float = TOLERANCE_MM,
) -> SurfaceAgreement:
    """Compare the surfaces of two 3-D masks of one shape; distances up to `tolerance_mm` count as agreement."""
    box = bounding_box(truth, prediction)
    if box is None:
        return SurfaceAgreement(1.0, 0.0)
    true, predicted = _Surface.from_mask(truth[box], spacing_mm), _Surface.from_mask(prediction[box], spacing_mm)
    if not (len(true.points) and len(predicted.points)):
        diagonal_mm = np.linalg.norm((np.array(truth.shape) - 1) * spacing_mm)
        return SurfaceAgreement(0.0, float(diagonal_mm))
    sides = [(true.areas, true.distance_to(predicted)), (predicted.areas, predicted.distance_to(true))]
    area_within = sum(areas[distance <= tolerance_mm].sum() for areas, distance in sides)
    return SurfaceAgreement(
        float(area_within / sum(areas.sum() for areas, _ in sides)),
        max(weighted_percentile(distance, areas, 95) for areas, distance in sides),
    )


@dataclass(frozen=True)
class _Surface:
    points: NDArray[np.float64]  # (n, 3) mm from the corner of the mask
    areas: NDArray[np.float64]  # (n,) mm² of the surface element at each point
    corners: NDArray[np.int64]  # (n,) indices of the points in `is_surface`
    is_surface: NDArray[np.bool_]  # flat, of all corners between voxels

    @classmethod
    def from_mask(cls, mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> Self:
        """Extract the surface of a mask, possibly empty."""
        codes = neighbor_codes(mask)
        # Excludes 0 (all background) and 255 (all lesion): unsigned subtraction wraps 0 to 255.
        is_surface = (codes - np.uint8(1) < 254).ravel()
        corners = np.flatnonzero(is_surface)
        areas = create_table_neighbour_code_to_surface_area(spacing_mm)[codes.ravel()[corners]]
        points = np.stack(np.unravel_index(corners, codes.shape), axis=-1) * np.asarray(spacing_mm)
        return cls(points, areas, corners, is_surface)

    def distance_to(self, other: Self) -> NDArray[np.float64]:
        """Compute the distance in mm from each point to the surface of another mask of the same shape."""
        distance = np.zeros(len(self.points))
        indices = np.flatnonzero(~other.is_surface[self.corners])  # common points have distance 0
        if len(indices):
            tree = KDTree(other.points, leafsize=32, balanced_tree=False, compact_nodes=False)
            distance[indices], _ = tree.query(self.points[indices], workers=-1)
        return distance


def neighbor_codes(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Encode which of the eight voxels around each of the (a + 1, b + 1, c + 1) corners are lesion.

    One bit each, the first voxel highest; the (a, b, c) mask is surrounded by background.
    """
    voxels = np.pad(mask, 1).view(np.uint8)
    codes = np.zeros([edge - 1 for edge in voxels.shape], np.uint8)
    for bit, step in enumerate(product((0, 1), repeat=3)):
        window = tuple(slice(start, start + edge) for start, edge in zip(step, codes.shape, strict=True))
        codes |= voxels[window] << (7 - bit)
    return codes


def weighted_percentile(values: NDArray, weights: NDArray, percent: float) -> float:
    """Return the smallest value that at least `percent` % of the weight does not exceed."""
    order = np.argsort(values)
    share = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][min(int(np.searchsorted(share, percent / 100)), len(values) - 1)])
