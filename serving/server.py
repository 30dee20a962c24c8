"""The embedded development server: TF Serving's gRPC API over the same version folders.

It stands in for stock `tensorflow/serving` on one machine without a container engine. Production runs the
stock server; a client cannot tell the two apart by the calls that this project makes.
"""

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from components.ct.errors import InputError
from serving.models import Model, Models
from serving.refusal import Refusal, invalid
from serving.replies import write_as_content, write_as_fields
from serving.saved_model import DEFAULT_SIGNATURE

_HANDLERS = 16  # requests read or written at once; TensorFlow's own pool does the computing
_GRACE_S = 10.0  # what requests under way may take when the server stops
_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.so_reuseport", 0),  # else two servers share a port in silence and answer by turns
]


def start(base: Path, model: str, port: int, host: str = "127.0.0.1", tensor_content: bool = False) -> "RunningServer":
    """Load the newest version in `base`, a folder of version folders, and answer; port 0 takes a free one.

    Raises:
        InputError: There is no version that can be loaded, or the port is taken.
    """
    served = Model(model, base)
    version = served.load_newest()
    server = grpc.server(ThreadPoolExecutor(_HANDLERS, "predict"), options=_OPTIONS)
    models = Models([served])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        PredictionService(models, tensor_content), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(models), server)
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError:
        bound = 0
    if not bound:
        raise InputError(f"cannot listen on {host}:{port}; is the port taken? choose another with --port")
    server.start()
    return RunningServer(server, served, version, host, bound)


class RunningServer:
    """A server that answers until it is stopped.

    Attributes:
        version: the version loaded at the start.
        address: `host:port` of the gRPC endpoint.
    """

    def __init__(self, server: Any, model: Model, version: int, host: str, port: int) -> None:
        self._server = server
        self.model = model
        self.version = version
        self.address = f"{host}:{port}"

    def stop(self) -> None:
        """Refuse new requests, finish those under way, and free the port."""
        self._server.stop(_GRACE_S).wait()


def serve_until_stopped(
    base: Path, model: str, port: int, host: str = "127.0.0.1", tensor_content: bool = False
) -> None:
    """Serve until SIGTERM or SIGINT, after one line that says where."""
    stop = threading.Event()
    # Until it serves, there is nothing to finish: the signal's default ends the process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    running = start(base, model, port, host, tensor_content)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    for status in running.model.statuses.values():
        if status.error:
            print(f"not served: {status.error}", flush=True)
    print(f"serving {model} version {running.version} on {running.address}", flush=True)
    stop.wait()
    running.stop()


@contextmanager
def _refusals(context: Any) -> Iterator[None]:
    """Answer a Refusal with its status."""
    try:
        yield
    except Refusal as refusal:
        context.abort(refusal.code, str(refusal))


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata."""

    def __init__(self, models: Models, tensor_content: bool) -> None:
        self._models = models
        self._write = write_as_content if tensor_content else write_as_fields

    def Predict(self, request: Any, context: Any) -> Any:
        """Run a signature on the request's tensors."""
        with _refusals(context):
            _require_model_spec(request)
            version, saved_model = self._models.choose(request.model_spec)
            signature = request.model_spec.signature_name or DEFAULT_SIGNATURE
            outputs = saved_model.run(signature, request.inputs, list(request.output_filter))
        reply = predict_pb2.PredictResponse()
        _name(reply.model_spec, request.model_spec.name, version, signature)
        for name, array in outputs.items():
            self._write(array, reply.outputs[name])
        return reply

    def GetModelMetadata(self, request: Any, context: Any) -> Any:
        """Publish the signatures of a version."""
        with _refusals(context):
            _require_model_spec(request)
            if not request.metadata_field:
                raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
            for field in request.metadata_field:
                if field != "signature_def":
                    raise invalid(f"Metadata field {field} is not supported")
            version, saved_model = self._models.choose(request.model_spec)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in saved_model.signatures.items():
            signatures.signature_def[name].CopyFrom(signature)
        reply = get_model_metadata_pb2.GetModelMetadataResponse()
        _name(reply.model_spec, request.model_spec.name, version, "")
        reply.metadata["signature_def"].Pack(signatures)
        return reply


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def GetModelStatus(self, request: Any, context: Any) -> Any:
        """Say where each version stands."""
        with _refusals(context):
            _require_model_spec(request)
            statuses = self._models.statuses(request.model_spec)
        reply = get_model_status_pb2.GetModelStatusResponse()
        for version, status in statuses.items():
            entry = reply.model_version_status.add(version=version, state=int(status.state))
            entry.status.error_code = tf.errors.UNKNOWN if status.error else tf.errors.OK
            entry.status.error_message = status.error
        return reply


def _require_model_spec(request: Any) -> None:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")


def _name(spec: Any, model: str, version: int, signature: str) -> None:
    spec.name, spec.signature_name = model, signature
    spec.version.value = version
