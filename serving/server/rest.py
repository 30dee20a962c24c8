"""TF Serving's REST API (https://www.tensorflow.org/tfx/serving/api_rest): predict, status and metadata.

JSON is an order of magnitude slower than gRPC for slices: it is for a quick look, probes and other languages.
"""

import json
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from google.protobuf import json_format

from components.runtime.errors import InputError
from serving.server.errors import RequestError, invalid
from serving.server.grpc_services import signature_map, status_reply
from serving.server.metrics import PATH as METRICS_PATH
from serving.server.metrics import Metrics
from serving.server.models import ModelRequest, Models
from serving.server.predictor import Predictor
from serving.server.rest_tensors import answer_body, read_body

_MODEL_PATH = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?(?P<rest>/metadata|:predict)?"
)
_MAX_BODY_BYTES = 256 << 20
_GRACE_S = 20.0  # what requests under way may take when the server stops
_IDLE_S = 30.0  # what a client may leave its connection open for without a word
_HTTP_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.FAILED_PRECONDITION: 412,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
}


class RestServer:
    """The REST API on a port of its own, answered by threads.

    Raises:
        InputError: The port is taken.
    """

    def __init__(
        self,
        host: str,
        port: int,
        models: Models,
        predictor: Predictor,
        metrics: Metrics,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        class Handler(_Handler):
            api = _Api(models, predictor, metrics)

        try:
            self._server = _Server((host, port), Handler)
        except OSError as error:
            raise InputError(
                f"cannot listen on {host}:{port} for REST ({error.strerror}); choose another with --rest-port"
            ) from error
        if tls is not None:
            # The handshake is made by the first read, in the connection's own thread.
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.address = f"{host}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="rest", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take no new connections, and finish the requests under way."""
        self._server.shutdown()
        self._server.server_close()
        self._server.wait_until_answered(_GRACE_S)


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # a connection kept open without a request holds nothing up
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._under_way = 0
        self._changed = threading.Condition()

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Count a request from its body to its answer."""
        with self._changed:
            self._under_way += 1
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def wait_until_answered(self, seconds: float) -> None:
        """Wait for the requests under way."""
        with self._changed:
            self._changed.wait_for(lambda: not self._under_way, seconds)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or speaks no TLS, is its own affair."""


class _Api:
    """Requests by method and path, without the socket."""

    def __init__(self, models: Models, predictor: Predictor, metrics: Metrics) -> None:
        self._models = models
        self._predictor = predictor
        self.metrics = metrics

    def get(self, path: str) -> Any:
        """Status or metadata."""
        asked, rest = _parsed(path, "GET")
        if rest is None:
            reply = status_reply(self._models.statuses(asked))
            return {"model_version_status": [_status(entry) for entry in reply.model_version_status]}
        if rest != "/metadata":
            raise invalid(f"Malformed request: GET {path}")
        version, model = self._models.choose(asked)
        spec = {"name": asked.name, "signature_name": "", "version": str(version)}
        return {"model_spec": spec, "metadata": {"signature_def": _as_dict(signature_map(model.signatures))}}

    def post(self, path: str, body: bytes) -> Any:
        """A prediction."""
        asked, rest = _parsed(path, "POST")
        if rest != ":predict":
            raise invalid(f"Malformed request: POST {path}")
        with self._predictor.counted(asked.name, "REST"):
            request = read_body(body)
            answer = self._predictor.predict(asked, request.signature_name, request.arrays)
        return answer_body(answer.outputs, request.by_row)


class _Handler(BaseHTTPRequestHandler):
    api: _Api
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_S

    def do_GET(self) -> None:
        if self.path == METRICS_PATH:
            self._send(200, self.api.metrics.text(), "text/plain; version=0.0.4; charset=utf-8")
        else:
            self._answer(lambda: self.api.get(self.path))

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _MAX_BODY_BYTES:
            self.close_connection = True  # the body is left unread
            self._send(413, _json({"error": f"expected a Content-Length of at most {_MAX_BODY_BYTES} bytes"}))
            return
        body = self.rfile.read(int(length))
        self._answer(lambda: self.api.post(self.path, body))

    def _answer(self, ask: Any) -> None:
        with self.server.under_way():
            try:
                status, content = 200, ask()
            except RequestError as refusal:
                status, content = _HTTP_STATUS.get(refusal.code, 500), {"error": str(refusal)}
            self._send(status, _json(content))

    def _send(self, status: int, content: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing of single requests: a path may hold what should not be logged."""


def _parsed(path: str, method: str) -> tuple[ModelRequest, str | None]:
    match = _MODEL_PATH.fullmatch(path)
    if match is None:
        raise invalid(f"Malformed request: {method} {path}")
    version = int(match["version"]) if match["version"] else None
    return ModelRequest(match["name"], version, match["label"] or ""), match["rest"]


def _status(entry: Any) -> dict[str, Any]:
    code = grpc_name(entry.status.error_code)
    return {
        "version": str(entry.version),
        "state": entry.DESCRIPTOR.fields_by_name["state"].enum_type.values_by_number[entry.state].name,
        "status": {"error_code": code, "error_message": entry.status.error_message},
    }


def grpc_name(number: int) -> str:
    """A status number's name, as TF Serving writes it in JSON."""
    return next(status.name for status in grpc.StatusCode if status.value[0] == number)


def _as_dict(message: Any) -> Any:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _json(content: Any) -> bytes:
    return json.dumps(content).encode() + b"\n"
