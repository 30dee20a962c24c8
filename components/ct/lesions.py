"""Lesions as a reader counts them: connected parts of a mask, each found or missed as a whole.

Voxels belong together that share a face, an edge or a corner (26 neighbors). A lesion is found where the
prediction marks any voxel of it; a predicted part that touches no lesion is a false one.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from components.ct.bounding_box import bounding_box

NEIGHBORS_26 = np.ones((3, 3, 3), bool)  # what `scipy.ndimage.label` takes


@dataclass(frozen=True)
class Lesions:
    """The lesions of a 3-D mask, within the box that holds them all.

    Attributes:
        box: where in the mask the box lies; empty where there is no lesion.
        labels: int32 array of the box: 0 background, 1 to `count` the lesions.
        sizes: voxels of each lesion.
    """

    box: tuple[slice, ...]
    labels: NDArray[np.int32]
    sizes: NDArray[np.int64]

    @classmethod
    def of(cls, mask: NDArray) -> Self:
        """Find the lesions of a 3-D mask, where everything but 0 is lesion."""
        box = bounding_box(mask) or (slice(0, 0),) * mask.ndim
        labels, count = ndimage.label(mask[box], NEIGHBORS_26)
        return cls(box, labels, np.bincount(labels.ravel(), minlength=count + 1)[1:])

    @property
    def count(self) -> int:
        """Number of lesions."""
        return len(self.sizes)

    @property
    def voxels(self) -> int:
        """Voxels of all lesions."""
        return int(self.sizes.sum())

    @property
    def largest(self) -> int:
        """Voxels of the largest lesion, 0 where there is none."""
        return int(self.sizes.max(initial=0))

    def count_touched(self, mask: NDArray) -> int:
        """How many lesions share a voxel with another mask of the same shape."""
        touched = np.zeros(self.count + 1, bool)
        touched[self.labels[mask[self.box] != 0]] = True
        return int(touched[1:].sum())


@dataclass(frozen=True)
class LesionDetection:
    """Lesions counted.

    Attributes:
        lesions: connected parts of the truth.
        found: those of them that the prediction touches.
        false_lesions: connected parts of the prediction that touch no lesion.
    """

    lesions: int
    found: int
    false_lesions: int


def detect_lesions(truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> LesionDetection:
    """Count the lesions of two 3-D masks of one shape, found, missed and invented."""
    lesions, predicted = Lesions.of(truth), Lesions.of(prediction)
    return LesionDetection(
        lesions.count, lesions.count_touched(prediction), predicted.count - predicted.count_touched(truth)
    )


def remove_small_lesions(mask: NDArray[np.uint8], voxel_ml: float, min_ml: float) -> NDArray[np.uint8]:
    """Clear the lesions under `min_ml` milliliters from a 3-D mask of 0 and 1; the mask given is left as it is."""
    if min_ml <= voxel_ml:  # no lesion is smaller than a voxel
        return mask
    lesions = Lesions.of(mask)
    # Rounded, so that a lesion of exactly `min_ml` is not lost to the last bit of a product.
    kept = np.concatenate([[False], np.round(lesions.sizes * voxel_ml, 9) >= min_ml])
    cleared = np.zeros_like(mask)
    cleared[lesions.box] = kept[lesions.labels]
    return cleared
