"""TF Serving's REST API (https://www.tensorflow.org/tfx/serving/api_rest): predict, status and metadata.

For inspection, probes and other languages: JSON is an order of magnitude slower than gRPC for slices.
Paths, methods and status codes are those of tensorflow/serving, model_servers/http_rest_api_util.cc and http_server.cc.
"""

import asyncio
import re
import socket
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import unquote

import orjson
import uvicorn
from google.protobuf.json_format import MessageToDict
from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap

from components.runtime.errors import InputError
from serving.server.errors import (
    error_text,
    failed_precondition,
    invalid_argument,
    not_found,
    resource_exhausted,
    to_request_error,
)
from serving.server.grpc_services import status_response
from serving.server.metrics import PATH as METRICS_PATH
from serving.server.metrics import Metrics
from serving.server.model import ModelRequest
from serving.server.models import ModelRegistry
from serving.server.predictor import Predictor
from serving.server.rest_tensors import format_outputs, parse_body, pop_arrays
from serving.versions.layout import parse_version

_MODEL = r"(?:/versions/0*(\d+)|/labels/([^/:]+))?"
_PATHS = {
    "GET": re.compile(rf"(?i)/v1/models(?:/([^/:]+))?{_MODEL}(?:/(metadata))?", re.ASCII),
    "POST": re.compile(rf"(?i)/v1/models/([^/:]+){_MODEL}:((?-i:predict))", re.ASCII),
}
_MAX_BODY_BYTES, _MAX_BUFFERED_BYTES = 256 << 20, 1 << 30  # of one request, of all
_THREADS = 2  # JSON holds the interpreter's lock: more threads would only delay gRPC
_STALL_S = 30.0  # longest pause within a body
_to_dict = partial(MessageToDict, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
_HTTP_STATUS = dict.fromkeys(("INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE"), 400)
_HTTP_STATUS |= {"NOT_FOUND": 404, "RESOURCE_EXHAUSTED": 429, "UNIMPLEMENTED": 501, "UNAVAILABLE": 503}
_HTTP: dict[str, Any] = {"loop": "asyncio", "http": "h11", "ws": "none", "lifespan": "off", "timeout_keep_alive": 30}
# Paths may contain patient data: nothing is logged.
_QUIET: dict[str, Any] = {"log_config": None, "log_level": "critical", "access_log": False, "server_header": False}


class RestServer:
    """An HTTP server on its own port, with an event loop in a thread; raises `InputError` if the port is in use."""

    def __init__(self, host: str, port: int, api: "RestApi", tls: ssl.SSLContext | None, grace_s: int) -> None:
        host = host.strip("[]")
        try:
            family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            listener = listen(family, address)
        except OSError as error:
            raise InputError(
                f"{host}:{port}: cannot listen for REST ({error.strerror}); choose another port with --rest-port"
            ) from error
        self.port = int(listener.getsockname()[1])
        factory = None if tls is None else lambda *_: tls
        config = uvicorn.Config(api, ssl_context_factory=factory, timeout_graceful_shutdown=grace_s, **_HTTP, **_QUIET)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="rest", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port and finish the requests in progress."""
        self._server.should_exit = True
        self._thread.join()


def listen(family: int, address: Any) -> socket.socket:
    """Listen on an address of `getaddrinfo`; `::` takes IPv4 too, as gRPC's port does."""
    dualstack = address[0] == "::" and socket.has_dualstack_ipv6()
    return socket.create_server(address[:2], family=family, dualstack_ipv6=dualstack)


class RestApi:
    """The API as an ASGI application. Only predictions leave the event loop; `queue_size` limits those that wait."""

    def __init__(self, models: ModelRegistry, predictor: Predictor, metrics: Metrics, queue_size: int) -> None:
        self._models, self._predictor, self._metrics = models, predictor, metrics
        self._threads = ThreadPoolExecutor(_THREADS, "rest")
        self._predictions, self._max_predictions = 0, queue_size + _THREADS
        self._bodies: dict[int, bytearray] = {}  # of the requests in progress

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        # A proxy may send the absolute form. In the name of a model, what is not UTF-8 is replaced.
        path = re.sub("(?i)^https?://[^/]*", "", scope["raw_path"].decode(errors="replace"))
        content_type = b"text/plain; version=0.0.4; charset=utf-8" if path == METRICS_PATH else b"application/json"
        try:
            status, content = 200, await self._answer(path, scope, receive)
        except ConnectionError:  # the client hung up within the body
            return
        except Exception as error:
            failure = to_request_error(error).with_traceback(None)  # whose frames hold the request
            content_type = b"application/json"
            status, content = _HTTP_STATUS.get(failure.code.name, 500), orjson.dumps({"error": error_text(failure)})
        close = [(b"connection", b"close")] * (status == 400)  # the rest of the body, if any, is not read
        headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(content)), *close]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, path: str, scope: Any, receive: Any) -> bytes:
        method, headers = scope["method"], dict(scope["headers"])
        if b"content-length" in headers and b"transfer-encoding" in headers:  # RFC 9112, 6.3
            raise invalid_argument("expected Content-Length or Transfer-Encoding, got both")
        if path == METRICS_PATH and method in ("GET", "HEAD"):
            return self._metrics.render()
        if scope["query_string"]:
            path += "?" + scope["query_string"].decode()  # in TF Serving, part of the name
        if not path.lower().startswith("/v1/") and path != METRICS_PATH:
            raise not_found(f"Malformed request: {method} {path}")
        if method == "OPTIONS":
            if not re.search(rb"https?://", headers.get(b"origin", b"")):
                raise failed_precondition("Origin header is missing in CORS preflight")
            return b""
        match = _PATHS[method].fullmatch(path) if method in _PATHS else None
        if match is None:
            raise invalid_argument(f"Malformed request: {method} {path}")
        name, version, label, verb = match.groups()
        number = parse_version(version[:20]) if version else None
        if version and number is None:
            raise invalid_argument(f"Failed to convert version: {version} to numeric.")
        request = ModelRequest(unquote(name or ""), number, unquote(label or ""))
        if method == "POST":
            return await self._read_and_predict(request, int(headers.get(b"content-length", 0)), receive)
        if not name:
            raise invalid_argument("Missing model name in request.")
        if verb != "metadata":
            return orjson.dumps(_to_dict(status_response(self._models.statuses(request))))
        number, model = self._models.resolve(request)
        spec = {"name": request.name, "signature_name": "", "version": str(number)}
        signatures = _to_dict(SignatureDefMap(signature_def=model.signatures))
        return orjson.dumps({"model_spec": spec, "metadata": {"signature_def": signatures}})

    async def _read_and_predict(self, request: ModelRequest, length: int, receive: Any) -> bytes:
        body, more = bytearray(), True
        self._bodies[id(body)] = body
        try:
            while more:
                if max(len(body), length) > _MAX_BODY_BYTES:
                    raise invalid_argument(f"expected a body of at most {_MAX_BODY_BYTES} bytes")
                if sum(map(len, self._bodies.values())) > _MAX_BUFFERED_BYTES:
                    raise resource_exhausted("the requests in progress take too much memory; try again later")
                message = await asyncio.wait_for(receive(), _STALL_S)
                if message["type"] == "http.disconnect":
                    raise ConnectionError
                body += message["body"]
                more = message["more_body"]
            return await self._predict_in_thread(request, body, receive)
        except TimeoutError as error:
            raise invalid_argument(f"expected the rest of the body within {_STALL_S:g} s") from error
        finally:
            del self._bodies[id(body)]

    async def _predict_in_thread(self, request: ModelRequest, body: bytearray, receive: Any) -> bytes:
        """Predict unless too many requests wait; raise `ConnectionError` as soon as the client hangs up."""
        if self._predictions >= self._max_predictions:
            raise resource_exhausted(f"the queue is full ({self._predictions} REST requests); try again later")
        hung_up = asyncio.ensure_future(_wait_for_disconnect(receive))
        task = self._threads.submit(self._predict, request, body, lambda: not hung_up.done())
        self._predictions += 1
        try:
            future = asyncio.wrap_future(task)
            await asyncio.wait([hung_up, future], return_when="FIRST_COMPLETED")  # type: ignore[type-var]
            if not future.done():
                if task.cancel():
                    body.clear()  # the pool's queue keeps the task until its turn
                raise ConnectionError
            return future.result()
        finally:
            self._predictions -= 1
            hung_up.cancel()

    def _predict(self, request: ModelRequest, body: bytearray, is_active: Callable[[], bool]) -> bytes:
        with self._predictor.measure(request.name, "REST"):
            content = parse_body(body)
            body.clear()
            by_row = "instances" in content
            name = content.get("signature_name", "")
            result = self._predictor.predict(request, name, partial(pop_arrays, content), (), is_active)
            return format_outputs(result.outputs, by_row)


async def _wait_for_disconnect(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
