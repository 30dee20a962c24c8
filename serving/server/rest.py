"""TF Serving's REST API (https://www.tensorflow.org/tfx/serving/api_rest): predict, status and metadata.

JSON is an order of magnitude slower than gRPC for slices: use it for inspection, probes and other languages.
"""

import json
import re
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from google.protobuf import json_format
from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap

from components.runtime.errors import InputError
from serving.server.errors import RequestError, invalid_argument
from serving.server.grpc_services import status_response
from serving.server.metrics import PATH as METRICS_PATH
from serving.server.metrics import Metrics
from serving.server.model import ModelRequest
from serving.server.models import ModelRegistry
from serving.server.predictor import Predictor
from serving.server.rest_tensors import format_outputs, parse_body

_MODEL_PATH = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?(?P<verb>/metadata|:predict)?"
)
_MAX_BODY_BYTES = 256 << 20
_GRACE_S = 20.0  # for requests in progress when the server stops
_HTTP_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.FAILED_PRECONDITION: 412,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
}


class RestServer(ThreadingHTTPServer):
    """The REST API on its own port, one thread per connection; raises `InputError` if the port is in use."""

    daemon_threads = True  # idle connections do not delay shutdown
    request_queue_size = 128

    def __init__(
        self,
        host: str,
        port: int,
        models: ModelRegistry,
        predictor: Predictor,
        metrics: Metrics,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.models, self.predictor, self.metrics = models, predictor, metrics
        self.requests_in_progress = 0
        self.condition = threading.Condition()
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise InputError(
                f"{host}:{port}: cannot listen for REST ({error.strerror}); choose another port with --rest-port"
            ) from error
        if tls is not None:
            # The first read in the connection's own thread makes the handshake.
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.address = f"{host}:{self.server_port}"
        threading.Thread(target=self.serve_forever, name="rest", daemon=True).start()

    def stop(self) -> None:
        """Close the port and finish the requests in progress."""
        self.shutdown()
        self.server_close()
        with self.condition:
            self.condition.wait_for(lambda: not self.requests_in_progress, _GRACE_S)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that hang up or do not speak TLS."""


class _Handler(BaseHTTPRequestHandler):
    server: RestServer
    protocol_version = "HTTP/1.1"
    timeout = 30.0  # seconds without a request before the connection closes

    def do_GET(self) -> None:
        if self.path == METRICS_PATH:
            self._send(200, self.server.metrics.render(), "text/plain; version=0.0.4; charset=utf-8")
        else:
            self._respond(self._get)

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _MAX_BODY_BYTES:
            self.close_connection = True  # the body is not read
            self._send_json(413, {"error": f"expected a Content-Length of at most {_MAX_BODY_BYTES} bytes"})
            return
        body = self.rfile.read(int(length))
        self._respond(lambda: self._predict(body))

    def log_message(self, *_: Any) -> None:
        """Do not log requests: a path may contain patient data."""

    def _get(self) -> Any:
        """Return the JSON of a status or metadata request."""
        request, verb = self._parse_path()
        if verb is None:
            return _to_json(status_response(self.server.models.statuses(request)))
        if verb != "/metadata":
            raise invalid_argument(f"Malformed request: GET {self.path}")
        version, model = self.server.models.resolve(request)
        spec = {"name": request.name, "signature_name": "", "version": str(version)}
        signatures = _to_json(SignatureDefMap(signature_def=model.signatures))
        return {"model_spec": spec, "metadata": {"signature_def": signatures}}

    def _predict(self, body: bytes) -> Any:
        request, verb = self._parse_path()
        if verb != ":predict":
            raise invalid_argument(f"Malformed request: POST {self.path}")
        with self.server.predictor.measure(request.name, "REST"):
            content = parse_body(body)
            result = self.server.predictor.predict(request, content.signature_name, content.arrays)
        return format_outputs(result.outputs, content.by_row)

    def _parse_path(self) -> tuple[ModelRequest, str | None]:
        match = _MODEL_PATH.fullmatch(self.path)
        if match is None:
            raise invalid_argument(f"Malformed request: {self.command} {self.path}")
        version = int(match["version"]) if match["version"] else None
        return ModelRequest(match["name"], version, match["label"] or ""), match["verb"]

    def _respond(self, handle: Callable[[], Any]) -> None:
        """Send what `handle` returns, counting the request as in progress until it is sent."""
        with self.server.condition:
            self.server.requests_in_progress += 1
        try:
            try:
                status, content = 200, handle()
            except RequestError as error:
                status, content = _HTTP_STATUS.get(error.code, 500), {"error": str(error)}
            self._send_json(status, content)
        finally:
            with self.server.condition:
                self.server.requests_in_progress -= 1
                self.server.condition.notify_all()

    def _send_json(self, status: int, content: Any) -> None:
        self._send(status, json.dumps(content).encode() + b"\n", "application/json")

    def _send(self, status: int, content: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _to_json(message: Any) -> Any:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
