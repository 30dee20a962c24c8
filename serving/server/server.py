"""The embedded development server: TF Serving's gRPC and REST APIs over the same version folders.

It stands in for stock `tensorflow/serving` on one machine without a container engine. Production runs the
stock server; a client cannot tell the two apart by the calls that this project makes.
"""

import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from components.runtime.errors import InputError
from serving.server.batching import Batcher, BatchLimits
from serving.server.errors import RequestError
from serving.server.grpc_services import ModelService, PredictionService
from serving.server.metrics import Metrics
from serving.server.models import Models
from serving.server.predictor import Predictor
from serving.server.rest import RestServer
from serving.server.watcher import Watcher
from serving.tls import ServerTls
from serving.versions.model_config import ModelConfig, read_model_config

_SPARE_HANDLERS = 16  # beyond the queue: for those who ask for status, metadata or health, or must be refused
_GRACE_S = 20.0  # what requests under way may take when the server stops
_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.so_reuseport", 0),  # else two servers share a port in silence and answer by turns
]


@dataclass(frozen=True)
class Settings:
    """What a server is started with.

    Attributes:
        models: what to serve; empty where `config_file` says it.
        config_file: a `models.config`, followed while the server runs.
        host: address to listen on.
        port: of gRPC; 0 takes a free one.
        rest_port: of REST and metrics; 0 takes a free one, None leaves it out.
        tensor_content: whether tensors are answered as blocks of bytes.
        tls: certificates for both ports; None for plaintext.
        limits: of the queue and the batches.
        poll_s: how often the folders are looked at.
    """

    models: tuple[ModelConfig, ...] = ()
    config_file: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8500
    rest_port: int | None = None
    tensor_content: bool = False
    tls: ServerTls | None = None
    limits: BatchLimits = field(default_factory=BatchLimits)
    poll_s: float = 1.0


def start(settings: Settings, tell: Callable[[str], None] = lambda line: None) -> "RunningServer":
    """Load what is to be served, and answer.

    Args:
        settings: what to serve and where.
        tell: takes a line for the operator, about versions that come and go.

    Raises:
        InputError: A model has no version that can be loaded, or a port is taken.
    """
    models = Models(tell)
    configs = settings.models if settings.config_file is None else read_model_config(settings.config_file)
    try:
        models.reload(configs)
    except RequestError as refusal:
        raise InputError(str(refusal)) from refusal
    return RunningServer(settings, models, tell)


class RunningServer:
    """A server that answers until it is stopped.

    Attributes:
        models: what it serves.
        address: `host:port` of the gRPC endpoint.
        rest_address: the same of the REST endpoint, or None.
    """

    def __init__(self, settings: Settings, models: Models, tell: Callable[[str], None]) -> None:
        self.models = models
        self._batcher = Batcher(settings.limits, lambda slices: metrics.batch_slices.observe(slices))
        metrics = Metrics(self._batcher.waiting, models.shown)
        predictor = Predictor(models, self._batcher, metrics)
        handlers = settings.limits.waiting + settings.limits.workers * settings.limits.slices + _SPARE_HANDLERS
        self._grpc = grpc.server(ThreadPoolExecutor(handlers, "grpc"), options=_OPTIONS)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionService(models, predictor, settings.tensor_content), self._grpc
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(models), self._grpc)
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        self._health.set("tensorflow.serving.PredictionService", health_pb2.HealthCheckResponse.SERVING)
        self.address = f"{settings.host}:{_listen(self._grpc, settings)}"
        self._rest = None
        if settings.rest_port is not None:
            tls = settings.tls.for_http() if settings.tls else None
            self._rest = RestServer(settings.host, settings.rest_port, models, predictor, metrics, tls)
        self.rest_address = self._rest.address if self._rest else None
        self._grpc.start()
        self._watcher = Watcher(models, settings.config_file, settings.poll_s, tell)

    def stop(self) -> None:
        """Say that it is going, refuse new requests, finish those under way, and free the ports."""
        self._health.enter_graceful_shutdown()
        stopped = self._grpc.stop(_GRACE_S)
        if self._rest is not None:
            self._rest.stop()
        stopped.wait()
        self._batcher.close()
        self._watcher.stop()


def serve_until_stopped(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, after one line that says where."""
    stop = threading.Event()
    # Until it serves, there is nothing to finish: the signal's default ends the process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    running = start(settings, tell=lambda line: print(line, file=sys.stderr, flush=True))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    shown = ", ".join(f"{name} version {' and '.join(map(str, v))}" for name, v in running.models.shown().items())
    # The address is the line's last word, for programs that start a server on a free port.
    print(f"serving {shown} on {running.address}", flush=True)
    if running.rest_address:
        print(f"REST and metrics on {running.rest_address}", flush=True)
    stop.wait()
    running.stop()


def _listen(server: Any, settings: Settings) -> int:
    where = f"{settings.host}:{settings.port}"
    try:
        if settings.tls is None:
            port = server.add_insecure_port(where)
        else:
            port = server.add_secure_port(where, settings.tls.for_grpc())
    except RuntimeError:
        port = 0
    if not port:
        raise InputError(f"cannot listen on {where}; is the port taken? choose another with --port")
    return int(port)
