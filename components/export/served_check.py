"""The exported files behind a real server: does it load them, and does it answer right?

As TFX's InfraValidator does, but with the answers compared, and not only waited for.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.export.parity import Ask
from components.runtime.errors import InputError
from serving.client import messages
from serving.client.endpoint import Endpoint
from serving.client.segmentation import PREDICT
from serving.client.tensors import to_array, to_tensor
from serving.server.process import server_process
from serving.versions.tensor_names import INPUT

_ANSWER_S = 120.0


@contextmanager
def query_server(saved_model: Path, model_name: str) -> Iterator[Ask]:
    """Start a server on the very files, and ask it over gRPC.

    Raises:
        InputError: it does not load them, or does not answer.
    """
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (base / "1").symlink_to(saved_model.absolute())
        try:
            address = stack.enter_context(server_process(base, model_name))
        except InputError as error:
            raise InputError(f"export: {error}; nothing was published") from error
        endpoint = Endpoint(address, _ANSWER_S)
        stack.callback(endpoint.close)

        def ask(signature: str, slices_hu: NDArray[np.int16]) -> dict[str, NDArray]:
            request = messages.PredictRequest(model_spec={"name": model_name, "signature_name": signature})
            request.inputs.add(key=INPUT, value=to_tensor(slices_hu))
            reply = endpoint.call(PREDICT, request)
            return {entry.key: to_array(entry.value) for entry in reply.outputs}

        yield ask
