"""The embedded development server: TF Serving's gRPC and REST APIs over the same version folders.

It replaces stock `tensorflow/serving` on a machine without a container engine. Production runs the stock server;
both respond alike to the calls that this project makes.
"""

import errno
import logging
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from components.runtime.errors import InputError
from serving.server.batching import Batcher, BatchLimits
from serving.server.errors import RequestError
from serving.server.grpc_services import CallGuard, ModelService, PredictionService
from serving.server.metrics import Metrics
from serving.server.models import ModelRegistry, Watcher
from serving.server.predictor import Predictor
from serving.server.rest import RestApi, RestServer, listen
from serving.server.tensors import MAX_REQUEST_BYTES
from serving.tls import ServerTls
from serving.versions.model_config import ModelConfig, read_model_config

_log = logging.getLogger(__name__)
_SPARE_THREADS = 16  # beyond the queue: for status, metadata and health requests, and for rejections
_REFUSE_S = 0.2  # for requests on their way when the server stops; then the port closes
_QUEUE_GRACE_S = 600.0  # for the requests in progress and in the queue when the server stops
_REPLY_GRACE_S = 5.0  # after that, for their replies and for the streams of the health service
_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.so_reuseport", 0),  # two servers would otherwise silently share a port
]


@dataclass(frozen=True)
class Settings:
    """Settings of a server."""

    models: tuple[ModelConfig, ...] = ()  # ignored with `config_file`
    config_file: Path | None = None  # a `models.config`, applied at each check
    host: str = "127.0.0.1"
    port: int = 8500  # of gRPC; 0 picks a free one
    rest_port: int | None = None  # of REST and metrics; 0 picks a free one, None disables them
    tensor_content: bool = False  # whether responses carry tensors as bytes
    tls: ServerTls | None = None  # for both ports; None for plaintext
    public_key: Path | None = None  # serve only versions signed by its owner; None serves all
    limits: BatchLimits = field(default_factory=BatchLimits)
    poll_s: float = 1.0  # interval between checks for new versions


class Server:
    """A server that answers requests from its creation until `stop`.

    Attributes:
        models: the served models.
        address: `host:port` of the gRPC endpoint.
        rest_address: `host:port` of the REST endpoint, or None.

    Raises:
        InputError: A port is in use, or a model has no loadable version.
    """

    def __init__(self, settings: Settings) -> None:
        _require_free_ports(settings)
        if settings.tls is not None and (problem := settings.tls.problem()):
            _log.warning("%s", problem)
        self.models = models = ModelRegistry(settings.public_key)
        try:
            models.reload(read_model_config(settings.config_file) if settings.config_file else settings.models)
        except RequestError as error:
            raise InputError(str(error)) from error
        self._batcher = Batcher(settings.limits, lambda slices: metrics.batch_slices.observe(slices))
        metrics = Metrics(self._batcher.queue_length, models.available_versions)
        predictor = Predictor(models, self._batcher, metrics)
        limits = settings.limits
        threads = limits.queue_size + limits.workers * limits.batch_slices + _SPARE_THREADS
        self._calls = CallGuard(limits.queue_bytes // 4)
        self._grpc = grpc.server(ThreadPoolExecutor(threads, "grpc"), interceptors=[self._calls], options=_OPTIONS)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionService(models, predictor, settings.tensor_content), self._grpc
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(models), self._grpc)
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        for name in ("PredictionService", "ModelService"):  # model_servers/server.cc, BuildAndStart
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self.address = _format_address(settings.host, _listen(self._grpc, settings))
        self._rest = None
        if settings.rest_port is not None:
            tls = settings.tls.for_http() if settings.tls else None
            api = RestApi(models, predictor, metrics, limits.queue_size)
            self._rest = RestServer(settings.host, settings.rest_port, api, tls, int(_QUEUE_GRACE_S))
        self.rest_address = _format_address(settings.host, self._rest.port) if self._rest else None
        self._grpc.start()
        self._watcher = Watcher(models, settings.config_file, settings.poll_s)

    def stop(self) -> None:
        """Report NOT_SERVING, reject new requests, answer those already accepted, and close the ports."""
        self._health.enter_graceful_shutdown()
        self._calls.refuse_calls()
        time.sleep(_REFUSE_S)
        self._grpc.stop(_QUEUE_GRACE_S)
        if self._rest is not None:
            self._rest.stop()
        self._calls.wait_until_idle(_QUEUE_GRACE_S)
        self._grpc.stop(_REPLY_GRACE_S).wait()
        self._batcher.close()
        self._watcher.stop()


def serve_until_stopped(settings: Settings) -> None:
    """Print one line with the address when ready, and serve until SIGTERM or SIGINT; a second one ends at once."""
    stop = threading.Event()
    # While models load, no request is in progress: the default action ends the process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    server = Server(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    versions = server.models.available_versions()
    models = ", ".join(f"{name} version {' and '.join(map(str, numbers))}" for name, numbers in versions.items())
    # The address is the last word of the line: programs that pass port 0 read it from here.
    print(f"serving {models} on {server.address}", flush=True)
    if server.rest_address:
        print(f"REST and metrics on {server.rest_address}", flush=True)
    stop.wait()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    server.stop()


def _format_address(host: str, port: int) -> str:
    """Join host and port; an IPv6 address goes in brackets."""
    bare = host.strip("[]")
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"


def _require_free_ports(settings: Settings) -> None:
    """Report a port in use before the models load, which takes longer.

    Raises:
        InputError: Another process listens on a port, both ports are the same, or the host is unknown.
    """
    host = settings.host.strip("[]")
    with ExitStack() as stack:
        for port, option in ((settings.port, "--port"), (settings.rest_port, "--rest-port")):
            try:
                addresses = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)
                for family, *_, address in addresses if port else ():
                    stack.enter_context(listen(family, address))
            except OSError as error:
                if isinstance(error, socket.gaierror) or error.errno == errno.EADDRINUSE:
                    raise InputError(
                        f"{_format_address(host, port or 0)}: cannot listen: {error.strerror}; choose another {option} "
                        "or --host"
                    ) from error


def _listen(server: Any, settings: Settings) -> int:
    address = _format_address(settings.host, settings.port)
    try:
        if settings.tls is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, settings.tls.for_grpc())
    except RuntimeError:
        port = 0
    if not port:
        raise InputError(f"{address}: cannot listen, the port may be in use; choose another --port or --host")
    return int(port)
