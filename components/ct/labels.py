"""Which labels a mask file holds, and the binary lesion mask that later stages work on."""

import numpy as np
from numpy.typing import NDArray

from components.ct.volume import positive_strides

ANY_LABEL = 0  # 0 is the background in every convention, so it is free to mean "the mask is binary as it is"
_BLOCK = 1 << 22


def unique_labels(voxels: NDArray) -> NDArray[np.float64]:
    """The distinct values of a mask, sorted."""
    flat = voxels[positive_strides(voxels)].ravel(order="K")
    values = np.empty(0)
    for start in range(0, flat.size, _BLOCK):
        values = np.union1d(values, _distinct(flat[start : start + _BLOCK]))
    return values


def is_binary(values: NDArray) -> bool:
    """Whether the distinct `values` are those of a mask of one lesion: 0 with 1, or 0 with 255."""
    found = set(values.tolist())
    return found <= {0.0, 1.0} or found <= {0.0, 255.0}


def binarize_lesion(voxels: NDArray, label: int = ANY_LABEL) -> NDArray[np.uint8] | None:
    """The mask as 0 and 1, or None where its values do not say which voxels are lesion.

    Args:
        voxels: a mask's values.
        label: the value that is the lesion; `ANY_LABEL` takes masks of 0 and 1, or of 0 and 255.
    """
    values = unique_labels(voxels)
    if (values != np.rint(values)).any():
        return None
    if label != ANY_LABEL:
        return (voxels == label).astype(np.uint8)
    return (voxels != 0).astype(np.uint8) if is_binary(values) else None


def _distinct(block: NDArray) -> NDArray[np.float64]:
    if block.dtype.kind in "iub" and int(block.max()) - int(block.min()) <= 1:
        return np.array(sorted({float(block.min()), float(block.max())}))  # 0 and 1, as a rule: nothing to count
    # Masks fit 8 bits as a rule, whatever type they are stored in; counting is ten times faster than sorting.
    with np.errstate(invalid="ignore"):
        small = block.astype(np.uint8, copy=False)
    if small is block or np.array_equal(small, block):
        return np.flatnonzero(np.bincount(small, minlength=256)).astype(np.float64)
    return np.unique(block).astype(np.float64)
