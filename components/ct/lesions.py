"""Lesions: the connected components of a mask, detected, measured and filtered by size.

Voxels that share a face, an edge or a corner (26 neighbors) belong to one lesion. A lesion counts as found if the
prediction covers any of its voxels; a predicted component that touches no lesion is a false positive.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from components.ct.masks import bounding_box

_NEIGHBORS_26 = np.ones((3, 3, 3), bool)


@dataclass(frozen=True)
class Lesions:
    """The lesions of a 3-D mask, cropped to their common bounding box."""

    box: tuple[slice, ...]  # empty without lesions
    labels: NDArray[np.int32]  # of the box: 0 background, 1 to `count` the lesions
    sizes: NDArray[np.int64]  # voxels in each lesion

    @classmethod
    def from_mask(cls, mask: NDArray) -> Self:
        """Find the lesions of a 3-D mask; every nonzero voxel is lesion."""
        box = bounding_box(mask) or (slice(0, 0),) * mask.ndim
        labels, count = ndimage.label(mask[box], _NEIGHBORS_26)
        return cls(box, labels, np.bincount(labels.ravel(), minlength=count + 1)[1:])

    @property
    def count(self) -> int:
        """Number of lesions."""
        return len(self.sizes)

    @property
    def voxels(self) -> int:
        """Voxels in all lesions."""
        return int(self.sizes.sum())

    @property
    def largest(self) -> int:
        """Voxels in the largest lesion; 0 if there is none."""
        return int(self.sizes.max(initial=0))

    def count_touched(self, mask: NDArray) -> int:
        """Count the lesions that share a voxel with another mask of the same shape."""
        is_touched = np.zeros(self.count + 1, bool)
        is_touched[self.labels[mask[self.box] != 0]] = True
        return int(is_touched[1:].sum())


@dataclass(frozen=True, kw_only=True)
class LesionDetection:
    """Lesion counts of a prediction against the ground truth."""

    lesions: int  # in the ground truth
    lesions_found: int  # touched by the prediction
    false_lesions: int  # predicted components that touch no lesion


def detect_lesions(truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> LesionDetection:
    """Count found, missed and false lesions in two 3-D masks of one shape."""
    lesions, predicted = Lesions.from_mask(truth), Lesions.from_mask(prediction)
    return LesionDetection(
        lesions=lesions.count,
        lesions_found=lesions.count_touched(prediction),
        false_lesions=predicted.count - predicted.count_touched(truth),
    )


def remove_small_lesions(mask: NDArray[np.uint8], *, voxel_ml: float, min_ml: float) -> NDArray[np.uint8]:
    """Return a 3-D mask of 0 and 1 without its lesions under `min_ml` milliliters."""
    if min_ml <= voxel_ml:  # no lesion is smaller than a voxel
        return mask
    lesions = Lesions.from_mask(mask)
    # Rounding keeps a lesion of exactly `min_ml` despite floating-point error.
    is_kept = np.concatenate([[False], np.round(lesions.sizes * voxel_ml, 9) >= min_ml])
    output = np.zeros_like(mask)
    output[lesions.box] = is_kept[lesions.labels]
    return output


@dataclass(frozen=True, kw_only=True)
class Burden:
    """The lesion burden of a scan."""

    lesion_ml: float
    lesion_percent: float  # of the whole scan, including air and body
    slices_affected: int  # axial slices with at least one lesion voxel
    slices: int


def measure_burden(mask: NDArray[np.uint8], voxel_ml: float) -> Burden:
    """Measure an (x, y, z) mask of 0 and 1."""
    voxels = int(np.count_nonzero(mask))
    return Burden(
        lesion_ml=voxels * voxel_ml,
        lesion_percent=100 * voxels / mask.size,
        slices_affected=int(mask.any(axis=(0, 1)).sum()),
        slices=mask.shape[2],
    )
