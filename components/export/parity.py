"""Whether an exported model gives the numbers of the model that was evaluated."""

from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from components.ct.errors import InputError
from components.ct.grid import GridFit
from components.export.signatures import INPUT, PROBABILITY

TOLERANCE = 1e-3  # largest difference in probability that is taken for rounding


def require_parity(saved_model: Path, expected: NDArray[np.float32], slices_hu: NDArray[np.int16]) -> float:
    """Load the exported files and compare both signatures with what the Keras model answered.

    Args:
        saved_model: the exported folder.
        expected: (n, size, size) probabilities of the evaluated model for the same slices.
        slices_hu: (n, size, size) int16 slices on the network's grid.

    Returns:
        The largest absolute difference in probability.

    Raises:
        InputError: it is above `TOLERANCE`, or not finite: nothing is to be published.
    """
    loaded = tf.saved_model.load(str(saved_model))
    size = slices_hu.shape[1]
    # Slices of twice the grid's size, each pixel fourfold: their fit is the very slice, up to rounding.
    doubled = slices_hu.repeat(2, axis=1).repeat(2, axis=2)
    back = GridFit(2 * size, 2 * size, size).invert(expected)
    worst = 0.0
    for signature, given, wanted in (("network", slices_hu, expected), ("serving_default", doubled, back)):
        answer = loaded.signatures[signature](**{INPUT: tf.constant(given)})[PROBABILITY].numpy()
        difference = float(np.abs(answer - wanted).max())
        if not difference <= TOLERANCE:
            raise InputError(
                f"export: signature {signature} differs from the evaluated model by {difference:.2g} in probability, "
                f"more than {TOLERANCE:g}; nothing was published"
            )
        worst = max(worst, difference)
    return worst
