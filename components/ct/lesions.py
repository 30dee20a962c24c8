"""Lesions as a reader counts them: connected parts of a mask, each found or missed as a whole.

Voxels belong together that share a face, an edge or a corner (26 neighbours). A lesion is found where the
prediction marks any voxel of it; a predicted part that touches no lesion is a false one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from components.ct.bounding_box import bounding_box

_NEIGHBOURS_26 = np.ones((3, 3, 3), bool)


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
    lesions, found = _touched_parts(truth, prediction)
    predicted, right = _touched_parts(prediction, truth)
    return LesionDetection(lesions, found, predicted - right)


def _touched_parts(mask: NDArray[np.bool_], other: NDArray[np.bool_]) -> tuple[int, int]:
    """How many connected parts a mask has, and how many of them hold a voxel of the other mask."""
    box = bounding_box(mask)
    if box is None:
        return 0, 0
    labels, parts = ndimage.label(mask[box], _NEIGHBOURS_26)
    touched = np.zeros(parts + 1, bool)
    touched[labels[other[box]]] = True
    return parts, int(touched[1:].sum())
