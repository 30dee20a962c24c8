"""The best Dice that any network can reach on its grid: what resizing alone costs."""

import numpy as np
from numpy.typing import NDArray

from components.ct.bounding_box import bounding_box
from components.ct.grid import GridFit
from components.ct.metrics import Confusion

_AT_ONCE = 32  # slices


def ceiling_dice(truth: NDArray[np.bool_], size: int) -> float:
    """Dice of a mask, (n, h, w), with itself after the way to a grid of `size` and back, cut at a half."""
    fit = GridFit(truth.shape[1], truth.shape[2], size)
    box = bounding_box(truth)
    in_truth = returned = both = 0
    for start in range(box[0].start, box[0].stop, _AT_ONCE) if box else ():
        lesion = truth[start : start + _AT_ONCE]
        grid = fit.apply(lesion, 0)
        # What comes back ends within two cells of the lesion: beyond it nothing is lesion, before or after.
        part = _around(lesion, fit)
        back, lesion = fit.invert(grid, part) >= 0.5, lesion[:, *part]
        in_truth += int(np.count_nonzero(lesion))
        returned += int(np.count_nonzero(back))
        both += int(np.count_nonzero(lesion & back))
    return Confusion(both, returned - both, in_truth - both, 0).dice


def _around(lesion: NDArray[np.bool_], fit: GridFit) -> tuple[slice, slice]:
    """The rows and columns that hold lesion in any of (n, h, w) slices, and two cells' width around them."""
    box = bounding_box(lesion)
    if box is None:
        return slice(0), slice(0)
    margin = 2 * -(-max(fit.height, fit.width) // fit.size) + 1
    rows, columns = (slice(max(0, edge.start - margin), edge.stop + margin) for edge in box[1:])
    return rows, columns
