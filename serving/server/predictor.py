"""One Predict request, whichever way it came: version, signature, arrays, queue, outputs."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from serving.server.batching import Arrays, Batcher
from serving.server.errors import RequestError, invalid
from serving.server.metrics import Metrics
from serving.server.models import ModelRequest, Models
from serving.versions.saved_model import DEFAULT_SIGNATURE, SignatureError


@dataclass(frozen=True)
class Answer:
    """Outputs by name, in the order asked for, and what gave them."""

    version: int
    signature: str
    outputs: Arrays


class Predictor:
    """Answers Predict requests from the models through the queue, and counts them."""

    def __init__(self, models: Models, batcher: Batcher, metrics: Metrics) -> None:
        self._models = models
        self._batcher = batcher
        self._metrics = metrics

    def predict(
        self,
        asked: ModelRequest,
        signature_name: str,
        read_inputs: Callable[[Any], Arrays],
        output_filter: Sequence[str] = (),
        wanted: Callable[[], bool] = lambda: True,
    ) -> Answer:
        """Answer one request.

        Args:
            asked: the model and version.
            signature_name: empty for the default one.
            read_inputs: reads and checks the request's arrays by the SignatureDef that it is given.
            output_filter: the outputs to answer with; empty for all.
            wanted: whether somebody still waits for the answer.

        Raises:
            RequestError: There is no such model, version or signature, the arrays do not fit, or the queue is full.
        """
        version, model = self._models.choose(asked)
        name = signature_name or DEFAULT_SIGNATURE
        try:
            signature = model.signature(name)
        except SignatureError as error:
            raise invalid(str(error)) from error
        outputs = self._batcher.run(model, name, read_inputs(signature), wanted)
        return Answer(version, name, {key: outputs[key] for key in output_filter or sorted(signature.outputs)})

    @contextmanager
    def counted(self, model: str, entrypoint: str) -> Iterator[None]:
        """Take the time and the outcome of a request; an exception passes through."""
        started = time.monotonic()
        status = "INTERNAL"
        try:
            yield
            status = "OK"
        except RequestError as refusal:
            status = refusal.code.name
            raise
        finally:
            self._metrics.count(model, status, entrypoint, time.monotonic() - started)
