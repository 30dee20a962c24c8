"""What a lesion mask amounts to, and leaving out what is too small to matter."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from components.ct.lesions import NEIGHBORS_26


@dataclass(frozen=True)
class Burden:
    """How much lesion a mask holds.

    Attributes:
        lesion_ml: volume of the mask.
        lesion_percent: its share of the whole scan, air and body included.
        slices_affected: axial slices with at least one lesion voxel.
        slices: axial slices in all.
    """

    lesion_ml: float
    lesion_percent: float
    slices_affected: int
    slices: int


def burden(mask: NDArray[np.uint8], voxel_ml: float) -> Burden:
    """Measure an (x, y, z) mask of 0 and 1."""
    voxels = int(np.count_nonzero(mask))
    return Burden(
        lesion_ml=voxels * voxel_ml,
        lesion_percent=100 * voxels / mask.size,
        slices_affected=int(mask.any(axis=(0, 1)).sum()),
        slices=mask.shape[2],
    )


def remove_small_lesions(mask: NDArray[np.uint8], voxel_ml: float, min_ml: float) -> NDArray[np.uint8]:
    """Clear connected lesions under `min_ml` milliliters from an (x, y, z) mask."""
    if min_ml <= voxel_ml:  # no lesion is smaller than a voxel
        return mask
    lesions, _ = ndimage.label(mask, NEIGHBORS_26)
    voxels = np.bincount(lesions.ravel())
    # Rounded, so that a lesion of exactly `min_ml` is not lost to the last bit of a product.
    kept = np.round(voxels * voxel_ml, 9) >= min_ml
    kept[0] = False  # the background
    return kept[lesions].astype(np.uint8)
