"""Masks: their label values, the binary lesion mask, and its bounding box."""

import numpy as np
from numpy.typing import NDArray

from components.ct.volume import positive_strides

BINARY_MASK = 0  # not a lesion value: 0 is the background in every convention
_BLOCK = 1 << 22
_ROUNDING = 1e-3  # of labels that a scaling stored as 0.9999999


def unique_labels(voxels: NDArray) -> NDArray[np.float64]:
    """Return the distinct values of a mask, sorted."""
    flat = voxels[positive_strides(voxels)].ravel(order="K")
    values = np.empty(0)
    for start in range(0, flat.size, _BLOCK):
        values = np.union1d(values, _unique_in_block(flat[start : start + _BLOCK]))
    return values


def is_binary(values: NDArray) -> bool:
    """Whether the distinct `values` of a mask are 0 with 1, or 0 with 255."""
    labels = set(values.tolist())
    return labels <= {0.0, 1.0} or labels <= {0.0, 255.0}


def binarize_lesion(voxels: NDArray, label: int = BINARY_MASK) -> NDArray[np.uint8] | None:
    """Return the mask as 0 and 1, or None if its values do not identify the lesion.

    Args:
        voxels: mask values.
        label: the lesion's value; `BINARY_MASK` accepts masks of 0 and 1, or of 0 and 255.
    """
    values = unique_labels(voxels)
    labels = np.rint(values)
    if np.abs(values - labels).max() > _ROUNDING:
        return None
    voxels = np.rint(voxels) if voxels.dtype.kind == "f" else voxels
    if label != BINARY_MASK:
        return (voxels == label).astype(np.uint8)
    return (voxels != 0).astype(np.uint8) if is_binary(labels) else None


def bounding_box(*masks: NDArray) -> tuple[slice, ...] | None:
    """Return the smallest box around the nonzero voxels of masks of one shape; None if there are none."""
    # numpy reduces bool several times faster than uint8.
    masks = tuple(mask.view(bool) if mask.dtype.itemsize == 1 else mask for mask in masks)
    box: list[slice] = []
    for axis in range(masks[0].ndim):
        inside = tuple(box)  # earlier axes are cropped already
        others = tuple(other for other in range(masks[0].ndim) if other != axis)
        indices = np.flatnonzero(np.logical_or.reduce([mask[inside].any(axis=others) for mask in masks]))
        if not len(indices):
            return None
        box.append(slice(int(indices[0]), int(indices[-1]) + 1))
    return tuple(box)


def _unique_in_block(block: NDArray) -> NDArray[np.float64]:
    if block.dtype.kind in "iub" and int(block.max()) - int(block.min()) <= 1:
        return np.array(sorted({float(block.min()), float(block.max())}))  # the usual 0 and 1
    # Mask values usually fit 8 bits in any dtype; counting is ten times faster than sorting.
    with np.errstate(invalid="ignore"):
        small = block.astype(np.uint8, copy=False)
    if small is block or np.array_equal(small, block):
        return np.flatnonzero(np.bincount(small, minlength=256)).astype(np.float64)
    return np.unique(block).astype(np.float64)
