"""Whether slices with lesion are told from slices without, by the highest probability in each."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata


def slice_auc(has_lesion: NDArray[np.bool_], highest: NDArray[np.floating]) -> float | None:
    """The chance that a slice with lesion is given a higher value than one without; ties count half.

    That is the area under the ROC curve (Hanley and McNeil, 1982), from the sum of ranks.

    Args:
        has_lesion: (n,) bool.
        highest: (n,) highest lesion probability in each slice.

    Returns:
        0 to 1; None where all slices are of one kind, and there is nothing to tell apart.
    """
    positive = int(np.count_nonzero(has_lesion))
    negative = len(has_lesion) - positive
    if not (positive and negative):
        return None
    ranks = rankdata(highest)[has_lesion].sum()
    return float((ranks - positive * (positive + 1) / 2) / (positive * negative))
