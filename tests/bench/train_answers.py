"""One network's probabilities read in several ways: other thresholds, flip averaging, holes filled, crumbs left out."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from components.ct.inference import Network, predict_slices

PLAIN = "threshold 0.5"


def read_plainly(network: Network, slices_hu: NDArray[np.int16], size: int) -> dict[str, NDArray[np.bool_]]:
    """The mask of `PLAIN` alone, as `read_in_all_ways` has it, for half of the time."""
    return {PLAIN: _probability(network, slices_hu, size) >= 0.5}


def read_in_all_ways(network: Network, slices_hu: NDArray[np.int16], size: int) -> dict[str, NDArray[np.bool_]]:
    """Masks (n, h, w) by the name of the way; `PLAIN` is the first.

    Args:
        network: asked twice for each slice, the second time for its mirror image.
        slices_hu: (n, h, w).
        size: edge of the network's grid.
    """
    probability = _probability(network, slices_hu, size)
    mirrored = _probability(network, slices_hu[:, :, ::-1], size)[:, :, ::-1]
    found = probability >= 0.5
    return {
        PLAIN: found,
        "threshold 0.3": probability >= 0.3,
        "threshold 0.4": probability >= 0.4,
        "flips averaged": (probability + mirrored) / 2 >= 0.5,
        "all holes filled": np.stack([ndimage.binary_fill_holes(mask) for mask in found]),
        "holes below 0.1 % filled": ~np.stack([without_crumbs(~mask, 0.001) for mask in found]),
        "components below 0.05 % left out": np.stack([without_crumbs(mask, 0.0005) for mask in found]),
        "components below 0.1 % left out": np.stack([without_crumbs(mask, 0.001) for mask in found]),
        "components below 0.2 % left out": np.stack([without_crumbs(mask, 0.002) for mask in found]),
    }


def without_crumbs(mask: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """A slice's mask without the components that are smaller than a share of the slice."""
    labels, _ = ndimage.label(mask)
    large = np.bincount(labels.ravel()) >= share * mask.size
    large[0] = False
    return large[labels]


def _probability(network: Network, slices_hu: NDArray[np.int16], size: int) -> NDArray[np.float32]:
    return np.concatenate([part for _, part in predict_slices(network, np.ascontiguousarray(slices_hu), size)])
