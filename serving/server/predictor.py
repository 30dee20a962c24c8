"""Predict requests of both APIs: version, signature, inputs, queue, outputs."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from serving.server.batching import Arrays, Batcher
from serving.server.errors import to_request_error
from serving.server.metrics import Metrics
from serving.server.model import ModelRequest
from serving.server.models import ModelRegistry
from serving.versions.saved_model import DEFAULT_SIGNATURE


@dataclass(frozen=True)
class PredictResult:
    """Outputs by name, in the order of the output filter, with the version and signature that computed them."""

    version: int
    signature_name: str
    outputs: Arrays


class Predictor:
    """Answers and measures Predict requests."""

    def __init__(self, models: ModelRegistry, batcher: Batcher, metrics: Metrics) -> None:
        self._models = models
        self._batcher = batcher
        self._metrics = metrics

    def predict(
        self,
        request: ModelRequest,
        signature_name: str,
        read_inputs: Callable[[Any], Arrays],
        output_filter: Sequence[str] = (),
        is_active: Callable[[], bool] = lambda: True,
    ) -> PredictResult:
        """Answer one request; an empty name selects the default signature, an empty filter all outputs.

        `read_inputs` returns the request's arrays, checked against a SignatureDef; `is_active` says whether the
        client still waits.

        Raises:
            RequestError: The model or version is unknown, an input is invalid, or the queue is full.
            SignatureError: The signature is unknown.
        """
        version, model = self._models.resolve(request)
        name = signature_name or DEFAULT_SIGNATURE
        signature = model.signature(name)
        outputs = self._batcher.run(model, name, read_inputs(signature), is_active)
        return PredictResult(version, name, {key: outputs[key] for key in output_filter or sorted(signature.outputs)})

    @contextmanager
    def measure(self, model_name: str, entrypoint: str) -> Iterator[None]:
        """Record the duration and outcome of a request, and raise its failure as a `RequestError`."""
        start = time.monotonic()
        status = "INTERNAL"
        try:
            yield
            status = "OK"
        except Exception as error:
            failure = to_request_error(error)
            status = failure.code.name
            raise failure from None if failure is error else error  # not its own cause: a cycle keeps memory
        finally:
            self._metrics.record_request(model_name, status, entrypoint, time.monotonic() - start)
