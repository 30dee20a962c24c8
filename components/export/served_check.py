"""The exported files behind a real server: does it load them, and does it answer right?

As TFX's InfraValidator does, but with the answers compared, and not only waited for.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.export.parity import Ask
from components.runtime.errors import InputError
from serving.client import messages
from serving.client.endpoint import Endpoint
from serving.client.segmentation import PREDICT
from serving.client.tensors import to_array, to_tensor
from serving.versions.tensor_names import INPUT

_STOP_S = 30
_ANSWER_S = 120.0


@contextmanager
def query_server(saved_model: Path, model_name: str) -> Iterator[Ask]:
    """Start a server on the very files, and ask it over gRPC.

    Raises:
        InputError: it does not load them, or does not answer.
    """
    with _server(saved_model, model_name) as address:
        endpoint = Endpoint(address, _ANSWER_S)

        def ask(signature: str, slices_hu: NDArray[np.int16]) -> dict[str, NDArray]:
            request = messages.PredictRequest(model_spec={"name": model_name, "signature_name": signature})
            request.inputs.add(key=INPUT, value=to_tensor(slices_hu))
            reply = endpoint.call(PREDICT, request)
            return {entry.key: to_array(entry.value) for entry in reply.outputs}

        try:
            yield ask
        finally:
            endpoint.close()


@contextmanager
def _server(saved_model: Path, model_name: str) -> Iterator[str]:
    """Serve a folder as version 1 of a model base of its own; yield the address."""
    with tempfile.TemporaryDirectory() as base:
        (Path(base) / "1").symlink_to(saved_model.absolute())
        command = [sys.executable, "-m", "serving.cli", "serve", "--model-base", base, "--model", model_name]
        process = subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                told = process.communicate()[1].strip().rpartition("\n")[2]
                raise InputError(f"export: a server does not load the exported files: {told}; nothing was published")
            yield line.split()[-1]
        finally:
            process.terminate()
            try:
                process.communicate(timeout=_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
