"""The parity check: the exported files return the evaluated model's numbers, in this process and behind a server.

Unlike TFX's InfraValidator, which only waits for a response, this check compares it.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.ct.grid import GridFit
from components.runtime.errors import InputError
from serving.client import messages
from serving.client.endpoint import Endpoint
from serving.client.messages import to_array, to_tensor
from serving.client.segmentation import PREDICT
from serving.server.process import server_process
from serving.versions.contract import ANY_SIZE_SIGNATURE, GRID_SIGNATURE, INPUT, MASK, PROBABILITY
from serving.versions.saved_model import SavedModel

TOLERANCE = 1e-3  # largest difference in probability attributed to rounding
MASK_AGREEMENT = 0.9999  # smallest fraction of voxels with the evaluated model's mask value
_TIMEOUT_S = 120.0

# (signature name, (n, rows, columns) int16 slices) -> outputs by name.
Query = Callable[[str, NDArray[np.int16]], dict[str, NDArray]]


def query_saved_model(saved_model: Path) -> Query:
    """Load the exported files into this process."""
    model = SavedModel(saved_model)
    return lambda signature, slices_hu: model.run(signature, {INPUT: slices_hu})


@contextmanager
def query_server(saved_model: Path, model_name: str) -> Iterator[Query]:
    """Query the exported files over gRPC, served by a child process; raise `InputError` unless it starts."""
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (base / "1").symlink_to(saved_model.absolute())
        try:
            address = stack.enter_context(server_process(base, model_name))
        except InputError as error:
            raise InputError(f"export: {error}; nothing was published") from error
        endpoint = stack.enter_context(Endpoint(address, _TIMEOUT_S))

        def query(signature: str, slices_hu: NDArray[np.int16]) -> dict[str, NDArray]:
            request = messages.PredictRequest(model_spec={"name": model_name, "signature_name": signature})
            request.inputs.add(key=INPUT, value=to_tensor(slices_hu))
            response = endpoint.call(PREDICT, request)
            return {entry.key: to_array(entry.value) for entry in response.outputs}

        yield query


def require_parity(
    query: Query, *, slices_hu: NDArray[np.int16], expected: NDArray[np.float32], threshold: float
) -> float:
    """Compare both signatures with the Keras model's output.

    Args:
        query: runs a signature of the exported model.
        slices_hu: (n, size, size) int16 slices on the network's grid.
        expected: (n, size, size) probabilities of the evaluated model for these slices.
        threshold: probability from which a voxel counts as lesion.

    Returns:
        The largest absolute difference in probability.

    Raises:
        InputError: the difference exceeds `TOLERANCE` or is not finite, or the masks differ.
    """
    size = slices_hu.shape[1]
    # Slices of twice the grid's size, every pixel repeated: fitted to the grid they are `slices_hu`, up to rounding.
    doubled_hu = slices_hu.repeat(2, axis=1).repeat(2, axis=2)
    doubled_expected = GridFit(height=2 * size, width=2 * size, size=size).invert(expected)
    max_difference = 0.0
    for signature, slices, probability in (
        (GRID_SIGNATURE, slices_hu, expected),
        (ANY_SIZE_SIGNATURE, doubled_hu, doubled_expected),
    ):
        outputs = query(signature, slices)
        difference = float(np.abs(outputs[PROBABILITY] - probability).max())
        if not difference <= TOLERANCE:
            raise InputError(
                f"export: signature {signature} differs from the evaluated model by {difference:.2g} in probability; "
                f"expected at most {TOLERANCE:g}; nothing was published"
            )
        agreement = float((outputs[MASK].astype(bool) == (probability >= threshold)).mean())
        if agreement < MASK_AGREEMENT:
            raise InputError(
                f"export: signature {signature} matches the evaluated model's mask in {agreement:.4%} of voxels; "
                f"expected at least {MASK_AGREEMENT:.2%}; nothing was published"
            )
        max_difference = max(max_difference, difference)
    return max_difference
