"""Whether an exported model gives the numbers of the model that was evaluated, however it is asked."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.ct.grid import GridFit
from components.runtime.errors import InputError
from serving.versions.saved_model import SavedModel
from serving.versions.tensor_names import ANY_SIZE_SIGNATURE, GRID_SIGNATURE, INPUT, MASK, PROBABILITY

TOLERANCE = 1e-3  # largest difference in probability that is taken for rounding
MASK_AGREEMENT = 0.9999  # share of voxels whose mask must be the evaluated model's

Ask = Callable[[str, NDArray[np.int16]], dict[str, NDArray]]
"""Takes a signature's name and its slices, and gives its outputs by name."""


def query_saved_model(saved_model: Path) -> Ask:
    """Ask the exported files, loaded into this process."""
    model = SavedModel(saved_model)
    return lambda signature, slices_hu: model.run(signature, {INPUT: slices_hu})


def require_parity(ask: Ask, expected: NDArray[np.float32], slices_hu: NDArray[np.int16], threshold: float) -> float:
    """Compare both signatures with what the Keras model answered.

    Args:
        ask: asks the exported model.
        expected: (n, size, size) probabilities of the evaluated model for the same slices.
        slices_hu: (n, size, size) int16 slices on the network's grid.
        threshold: probability from which on a voxel counts as lesion.

    Returns:
        The largest absolute difference in probability.

    Raises:
        InputError: it is above `TOLERANCE` or not finite, or the masks differ: nothing is to be published.
    """
    size = slices_hu.shape[1]
    # Slices of twice the grid's size, each pixel fourfold: their fit is the very slice, up to rounding.
    doubled = slices_hu.repeat(2, axis=1).repeat(2, axis=2)
    back = GridFit(2 * size, 2 * size, size).invert(expected)
    worst = 0.0
    for signature, given, wanted in ((GRID_SIGNATURE, slices_hu, expected), (ANY_SIZE_SIGNATURE, doubled, back)):
        answer = ask(signature, given)
        difference = float(np.abs(answer[PROBABILITY] - wanted).max())
        if not difference <= TOLERANCE:
            raise InputError(
                f"export: signature {signature} differs from the evaluated model by {difference:.2g} in probability, "
                f"more than {TOLERANCE:g}; nothing was published"
            )
        agreement = float((answer[MASK].astype(bool) == (wanted >= threshold)).mean())
        if agreement < MASK_AGREEMENT:
            raise InputError(
                f"export: signature {signature} draws {agreement:.4%} of the evaluated model's mask, less than "
                f"{MASK_AGREEMENT:.2%}; nothing was published"
            )
        worst = max(worst, difference)
    return worst
