"""A real HTTP server of the Kubeflow Pipelines API (v2beta1), with the paths that the product uses.

Request bodies are validated by the published kfp-server-api models; an unknown field gets status 400, as from the API.
"""

import email
import json
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import kfp_server_api
import yaml

_API = "/apis/v2beta1/"


@dataclass
class KfpServer:
    """The cluster's objects by id, and the failures to inject."""

    url: str = ""
    token: str = ""
    namespace: str = ""
    pipelines: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    schedules: dict[str, dict[str, Any]] = field(default_factory=dict)
    states: list[dict[str, Any]] = field(default_factory=list)  # the run at each successive request
    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)  # "POST runs": status and message
    lost_writes: int = 0  # number of next POSTs that take effect but get status 503
    requests: list[str] = field(default_factory=list)


class _ApiError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def _validate(body: dict[str, Any], model: str, path: str = "") -> dict[str, Any]:
    """Validate a body by the published model, including nested ones."""
    kind = getattr(kfp_server_api, model)
    known = {wire: kind.openapi_types[name] for name, wire in kind.attribute_map.items()}
    for name, value in body.items():
        if name not in known:
            raise _ApiError(400, f"unknown field {path}{name} of {model}")
        if hasattr(kfp_server_api, known[name]) and isinstance(value, dict):
            _validate(value, known[name], f"{path}{name}.")
    kfp_server_api.ApiClient()._ApiClient__deserialize(body, model)
    return body


def _handler(server: KfpServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def reply(self) -> None:
            method = self.command
            parts = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(parts.query))
            path = parts.path.removeprefix(_API)
            server.requests.append(f"{method} {path}")
            length = int(self.headers.get("Content-Length") or 0)
            form = read_uploaded_file(self) if path.endswith("upload_version") else None
            body = json.loads(self.rfile.read(length)) if length and form is None else {}
            try:
                if server.token and self.headers.get("Authorization") != f"Bearer {server.token}":
                    raise _ApiError(401, "unauthenticated")
                if f"{method} {path}" in server.refuse:
                    raise _ApiError(*server.refuse[f"{method} {path}"])
                status, answer = 200, respond(server, method, path, query, body, form)
                if method == "POST" and server.lost_writes:
                    server.lost_writes -= 1
                    raise _ApiError(503, "upstream connect error")
            except _ApiError as error:
                status, answer = error.status, {"code": error.status, "message": str(error)}
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = reply

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


def read_uploaded_file(handler: BaseHTTPRequestHandler) -> bytes:
    """The file of a multipart form."""
    content = handler.rfile.read(int(handler.headers["Content-Length"]))
    message = email.message_from_bytes(b"Content-Type: " + handler.headers["Content-Type"].encode() + b"\n\n" + content)
    (part,) = (part for part in message.walk() if part.get_param("name", header="content-disposition") == "uploadfile")
    return part.get_payload(decode=True)


def respond(
    server: KfpServer, method: str, path: str, query: dict[str, str], body: dict[str, Any], form: bytes | None
) -> dict[str, Any]:
    """Respond like the API."""
    match method, path.split("/"):
        case "GET", ["healthz"]:
            return {"multi_user": bool(server.namespace)}
        case "GET", ["pipelines"]:
            return list_items("pipelines", server.pipelines, query)
        case "POST", ["pipelines"]:
            return store(server.pipelines, _validate(body, "V2beta1Pipeline"), "pipeline_id")
        case "GET", ["pipelines", pipeline_id, "versions"]:
            of_pipeline = {key: v for key, v in server.versions.items() if v["pipeline_id"] == pipeline_id}
            return list_items("pipeline_versions", of_pipeline, query)
        case "POST", ["pipelines", "upload_version"]:
            assert form is not None
            yaml.safe_load(form.split(b"\n---")[0])
            version = {"pipeline_id": query["pipelineid"], "display_name": query["name"]}
            return store(server.versions, version, "pipeline_version_id")
        case "GET", ["experiments"]:
            return list_items("experiments", server.experiments, query)
        case "POST", ["experiments"]:
            return store(server.experiments, _validate(body, "V2beta1Experiment"), "experiment_id")
        case "POST", ["runs"]:
            return store(server.runs, _validate(body, "V2beta1Run"), "run_id", unique=False)
        case "GET", ["runs", run_id] if run_id in server.runs:
            state = server.states.pop(0) if len(server.states) > 1 else (server.states or [{}])[0]
            return server.runs[run_id] | state
        case "GET", ["recurringruns"]:
            return list_items("recurringRuns", server.schedules, query)
        case "POST", ["recurringruns"]:
            return store(server.schedules, _validate(body, "V2beta1RecurringRun"), "recurring_run_id", unique=False)
        case "DELETE", ["recurringruns", schedule] if schedule in server.schedules:
            del server.schedules[schedule]
            return {}
    raise _ApiError(404, f"{method} {path}: not found")


def list_items(name: str, items: dict[str, dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
    """Items that match the filter, which supports only equality."""
    predicates = json.loads(query["filter"])["predicates"] if "filter" in query else []
    assert all(predicate["operation"] in ("EQUALS", 1) for predicate in predicates)
    wanted = {predicate["key"]: predicate["stringValue"] for predicate in predicates}
    return {name: [item for item in items.values() if wanted.items() <= item.items()]}


def store(
    items: dict[str, dict[str, Any]], item: dict[str, Any], id_name: str, *, unique: bool = True
) -> dict[str, Any]:
    """Store an item under a new id; names of pipelines, versions and experiments are unique."""
    if unique and any(item["display_name"] == other["display_name"] for other in items.values()):
        raise _ApiError(409, f"already exists: {item['display_name']}")
    key = f"{id_name.removesuffix('_id')}-{len(items) + 1}"
    items[key] = item | {id_name: key}
    return items[key]


@contextmanager
def run_kfp_server(token: str = "", namespace: str = "") -> Iterator[KfpServer]:
    """Run the server on a free local port."""
    server = KfpServer(token=token, namespace=namespace)
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
