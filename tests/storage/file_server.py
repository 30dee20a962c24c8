"""An HTTP server of a few files, with Range requests and injected faults."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass
class HttpFault:
    """A fault to inject into the next `times` requests."""

    status: int = 0  # answer with this status
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int = -1  # close the connection after so many bytes
    content: bytes | None = None  # serve this content instead
    whole: bool = False  # ignore the Range header
    shift: int = 0  # offset the requested range
    before: Callable[[], None] = lambda: None  # call this first
    delay_s: float = 0  # wait before the answer
    times: int = 1


@dataclass
class FileServer:
    """The address, the files by name, the requests so far, and the faults to come."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    faults: list[HttpFault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)  # name and Range


def _handler(server: FileServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name, requested = self.path.rpartition("/")[2], self.headers.get("Range", "")
            server.requests.append((name, requested))
            fault = server.faults[0] if server.faults else HttpFault()
            fault.times -= 1
            if fault.times == 0 and server.faults:
                server.faults.pop(0)
            fault.before()
            time.sleep(fault.delay_s)
            content = server.files.get(name) if fault.content is None else fault.content
            if fault.status or content is None:
                return self.answer(fault.status or 404, fault.headers, b"<html>no</html>", -1)
            match = re.fullmatch(r"bytes=(\d+)-", requested)
            if not match or fault.whole:
                return self.answer(200, {}, content, fault.cut_after)
            start = int(match[1]) + fault.shift
            if start >= len(content):
                return self.answer(416, {"Content-Range": f"bytes */{len(content)}"}, b"", -1)
            part = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
            return self.answer(206, part, content[start:], fault.cut_after)

        def answer(self, status: int, headers: dict[str, str], body: bytes, cut_after: int) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(ConnectionError):  # the client may have gone
                self.wfile.write(body[:cut_after] if cut_after >= 0 else body)
                self.wfile.flush()

        def log_message(self, *args) -> None:
            pass

    return Handler


@pytest.fixture
def file_server() -> Iterator[FileServer]:
    """A running server without files, on a free port."""
    server = FileServer()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(server)) as running:
        server.url = f"http://127.0.0.1:{running.server_address[1]}/records/3757476/files"
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        running.shutdown()
