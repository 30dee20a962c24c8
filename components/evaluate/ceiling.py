"""The best Dice that any network can reach on its grid: what resizing alone costs."""

import numpy as np
from numpy.typing import NDArray

from components.ct.grid import GridFit
from components.ct.metrics import Confusion


def ceiling_dice(truth: NDArray[np.bool_], size: int) -> float:
    """Dice of a mask, (n, h, w), with itself after the way to a grid of `size` and back, cut at a half."""
    fit = GridFit(truth.shape[1], truth.shape[2], size)
    in_truth = returned = both = 0
    for lesion in truth[truth.any(axis=(1, 2))]:
        back = fit.invert(fit.apply(lesion[None], 0))[0] >= 0.5
        in_truth += int(np.count_nonzero(lesion))
        returned += int(np.count_nonzero(back))
        both += int(np.count_nonzero(lesion & back))
    return Confusion(both, returned - both, in_truth - both, 0).dice
