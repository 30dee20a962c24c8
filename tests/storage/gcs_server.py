"""gcp-storage-emulator behind a proxy that adds preconditions and injects faults.

The emulator ignores generations and preconditions; the proxy answers 412 and 404 as Cloud Storage does.
"""

import http.client
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest
from gcp_storage_emulator.server import create_server

BUCKET = "hospital"


@dataclass
class Fault:
    """A fault to inject into the next `times` requests with this method and `name` in their path."""

    name: str
    method: str = "GET"
    status: int = 0  # answer with this status
    edit: Callable[[bytes], bytes] | None = None  # change the answer's body
    cut_after: int = -1  # close the connection after so many bytes of the answer
    before: Callable[[], None] | None = None  # call this first
    times: int = 1


@dataclass
class GcsServer:
    """The address for `STORAGE_EMULATOR_HOST`, the requests so far, and the faults to come."""

    url: str
    emulator_port: int
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)  # method and path with query
    written: list[str] = field(default_factory=list)  # names, each time an object was written through the proxy
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, name: str, content: bytes, bucket: str = BUCKET) -> None:
        """Write an object around the proxy, as another client would."""
        path = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(name, safe='')}"
        # The emulator builds an object's download address from the host that it was written through.
        headers = {"Content-Type": "application/octet-stream", "Host": urlsplit(self.url).netloc}
        status, _, answer = self.forward("POST", path, headers, content)
        assert status == 200, answer

    def get(self, name: str, bucket: str = BUCKET) -> bytes:
        status, _, content = self.forward("GET", f"/download/storage/v1/b/{bucket}/o/{quote(name, safe='')}", {})
        assert status == 200, content
        return content

    def delete(self, name: str, bucket: str = BUCKET) -> None:
        self.forward("DELETE", f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}", {})

    def names(self, bucket: str = BUCKET) -> list[str]:
        """The objects' names in the order written."""
        _, _, answer = self.forward("GET", f"/storage/v1/b/{bucket}/o", {})
        return [item["name"] for item in sorted(json.loads(answer)["items"], key=lambda item: int(item["generation"]))]

    def generation(self, bucket: str, name: str) -> str | None:
        status, _, answer = self.forward("GET", f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}", {})
        return json.loads(answer)["generation"] if status == 200 else None

    def downloads(self) -> list[str]:
        """The names of the downloaded objects in order."""
        paths = [path for method, path in self.requests if method == "GET" and "alt=media" in path]
        return [unquote(re.search(r"/o/([^?]+)", path)[1]) for path in paths]

    def forward(self, method: str, path: str, headers: dict, body: bytes = b"") -> tuple[int, list, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.emulator_port, timeout=20)
        try:
            connection.request(method, path, body or None, headers)
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            connection.close()

    def next_fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and fault.method == method and fault.name in unquote(path):
                    fault.times -= 1
                    return fault
        return None


def _handler(server: GcsServer) -> type[BaseHTTPRequestHandler]:
    upload = threading.Lock()
    conditions: dict[str, tuple[str, str, str]] = {}  # of resumable uploads in progress

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status: int, headers: list, body: bytes, cut_after: int = -1) -> None:
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in ("content-length", "date", "server", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if cut_after >= 0:
                self.wfile.write(body[:cut_after])
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(2)
                return
            self.wfile.write(body)

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            server.requests.append((self.command, self.path))
            fault = server.next_fault(self.command, self.path) or Fault("")
            if fault.before:
                fault.before()
            if fault.status:
                return self.answer(fault.status, [], b'{"error": {"message": "injected fault"}}')
            with upload:  # check and write are one step, as they are in Cloud Storage
                refusal = self.refusal(body)
                if refusal:
                    return self.answer(refusal, [], b'{"error": {"message": "precondition"}}')
                headers = {k: v for k, v in self.headers.items() if k.lower() not in ("connection", "accept-encoding")}
                status, response_headers, content = server.forward(self.command, self.path, headers, body)
            if self.command == "POST" and status == 200 and "uploadType=multipart" in self.path:
                server.written.append(json.loads(content)["name"])
            if "/rewriteTo/" in self.path and status == 200:
                server.written.append(json.loads(content)["resource"]["name"])
            self.remember(dict(response_headers).get("Location", ""), body)
            if fault.edit:
                content = fault.edit(content)
            return self.answer(status, response_headers, content, fault.cut_after)

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = handle_any

        def refusal(self, body: bytes) -> int:
            query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            bucket, name, expected = conditions.get(query.get("upload_id", ""), ("", "", ""))
            if not expected:
                bucket, name, expected = self.object(query, body)
            if not (expected or "generation" in query):
                return 0
            current = server.generation(bucket, name)
            if expected and (current or "0") != expected:
                return 412
            return 404 if query.get("generation", current) != current else 0

        def object(self, query: dict, body: bytes) -> tuple[str, str, str]:
            # A copy's precondition is on its destination (cloud.google.com/storage/docs/json_api/v1/objects/rewrite).
            destination = self.path.partition("/rewriteTo")[2] or self.path
            match = re.search(r"/b/([^/]+)/o(?:/([^?]+))?", destination)
            if not match:
                return "", "", ""
            name = query.get("name") or unquote(match[2] or "")
            if not name:
                named = re.search(rb'"name": ?"((?:[^"\\]|\\.)*)"', body)
                name = json.loads(b'"' + named[1] + b'"') if named else ""
            return match[1], name, query.get("ifGenerationMatch", "")

        def remember(self, location: str, body: bytes) -> None:
            query = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
            if "upload_id" in query:
                conditions[query["upload_id"]] = self.object(query, body)

        def log_message(self, *args) -> None:
            pass

    return Handler


def flip(content: bytes) -> bytes:
    return content[:20] + bytes([content[20] ^ 1]) + content[21:]


class _Proxy(ThreadingHTTPServer):
    def handle_error(self, request, client_address) -> None:
        """Ignore clients that have closed their connection."""


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[GcsServer]:
    """The emulator and its proxy on free ports, for all tests of a process."""
    with create_server("127.0.0.1", 0, in_memory=True) as emulator:
        server = GcsServer("", emulator._api._httpd.server_address[1])
        with _Proxy(("127.0.0.1", 0), _handler(server)) as proxy:
            server.url = f"http://127.0.0.1:{proxy.server_address[1]}"
            threading.Thread(target=proxy.serve_forever, args=(0.02,), daemon=True).start()
            yield server
            proxy.shutdown()


@pytest.fixture
def gcs(gcs_server, monkeypatch) -> GcsServer:
    """The server with one empty bucket and no faults; `STORAGE_EMULATOR_HOST` points at it."""
    gcs_server.forward("GET", "/wipe", {})
    gcs_server.forward(
        "POST", "/storage/v1/b", {"Content-Type": "application/json"}, f'{{"name": "{BUCKET}"}}'.encode()
    )
    gcs_server.faults.clear()
    gcs_server.requests.clear()
    gcs_server.written.clear()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_server.url)
    return gcs_server
