"""Masks of one network with other thresholds, flip averaging, and post-processing."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from components.ct.inference import Network, predict_slices

PLAIN = "threshold 0.5"


def plain_mask(network: Network, slices_hu: NDArray[np.int16], size: int) -> dict[str, NDArray[np.bool_]]:
    """Predict only the `PLAIN` mask of `mask_variants`."""
    return {PLAIN: _predict(network, slices_hu, size) >= 0.5}


def mask_variants(network: Network, slices_hu: NDArray[np.int16], size: int) -> dict[str, NDArray[np.bool_]]:
    """Predict masks (n, h, w) by the name of the variant; `PLAIN` is the first.

    Args:
        network: called twice for each slice, the second time for its mirror image.
        slices_hu: (n, h, w).
        size: edge of the network's grid.
    """
    probability = _predict(network, slices_hu, size)
    mirrored = _predict(network, slices_hu[:, :, ::-1], size)[:, :, ::-1]
    plain = probability >= 0.5
    return {
        PLAIN: plain,
        "threshold 0.3": probability >= 0.3,
        "threshold 0.4": probability >= 0.4,
        "flips averaged": (probability + mirrored) / 2 >= 0.5,
        "all holes filled": np.stack([ndimage.binary_fill_holes(mask) for mask in plain]),
        "holes below 0.1 % filled": ~np.stack([remove_small(~mask, 0.001) for mask in plain]),
        "components below 0.05 % removed": np.stack([remove_small(mask, 0.0005) for mask in plain]),
        "components below 0.1 % removed": np.stack([remove_small(mask, 0.001) for mask in plain]),
        "components below 0.2 % removed": np.stack([remove_small(mask, 0.002) for mask in plain]),
    }


def remove_small(mask: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """Remove the components of a slice's mask that are smaller than a share of the slice."""
    labels, _ = ndimage.label(mask)
    large = np.bincount(labels.ravel()) >= share * mask.size
    large[0] = False
    return large[labels]


def _predict(network: Network, slices_hu: NDArray[np.int16], size: int) -> NDArray[np.float32]:
    return np.concatenate([part for _, part in predict_slices(network, np.ascontiguousarray(slices_hu), size)])
