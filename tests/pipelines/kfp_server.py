"""A real HTTP server of the Kubeflow Pipelines API (v2beta1): the paths that we use, bodies held to its models.

Bodies are read by the published kfp-server-api classes; a field that they do not know is answered 400, as the
API server's own reader does.
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
    """What the cluster holds, by id; and what to do wrong."""

    url: str = ""
    token: str = ""
    namespace: str = ""
    pipelines: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    schedules: dict[str, dict[str, Any]] = field(default_factory=dict)
    states: list[dict[str, Any]] = field(default_factory=list)  # what a run looks like at each next look
    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)  # "POST runs": status and message
    lost_writes: int = 0  # so many next POSTs are done, and answered 503
    requests: list[str] = field(default_factory=list)


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def _checked(body: dict[str, Any], model: str, path: str = "") -> dict[str, Any]:
    """Hold a body to the published model, its nested ones included."""
    kind = getattr(kfp_server_api, model)
    known = {wire: kind.openapi_types[name] for name, wire in kind.attribute_map.items()}
    for name, value in body.items():
        if name not in known:
            raise _Refused(400, f"unknown field {path}{name} of {model}")
        if hasattr(kfp_server_api, known[name]) and isinstance(value, dict):
            _checked(value, known[name], f"{path}{name}.")
    kfp_server_api.ApiClient()._ApiClient__deserialize(body, model)
    return body


def _handler(server: KfpServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer("GET")

        def do_POST(self) -> None:
            self.answer("POST")

        def do_DELETE(self) -> None:
            self.answer("DELETE")

        def answer(self, method: str) -> None:
            parts = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(parts.query))
            path = parts.path.removeprefix(_API)
            server.requests.append(f"{method} {path}")
            length = int(self.headers.get("Content-Length") or 0)
            form = uploaded_file(self) if path.endswith("upload_version") else None
            body = json.loads(self.rfile.read(length)) if length and form is None else {}
            try:
                if server.token and self.headers.get("Authorization") != f"Bearer {server.token}":
                    raise _Refused(401, "unauthenticated")
                if f"{method} {path}" in server.refuse:
                    raise _Refused(*server.refuse[f"{method} {path}"])
                status, reply = 200, answered(server, method, path, query, body, form)
                if method == "POST" and server.lost_writes:
                    server.lost_writes -= 1
                    raise _Refused(503, "upstream connect error")
            except _Refused as refused:
                status, reply = refused.status, {"code": refused.status, "message": str(refused)}
            content = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


def uploaded_file(handler: BaseHTTPRequestHandler) -> bytes:
    """The file of a multipart form."""
    content = handler.rfile.read(int(handler.headers["Content-Length"]))
    message = email.message_from_bytes(b"Content-Type: " + handler.headers["Content-Type"].encode() + b"\n\n" + content)
    (part,) = (part for part in message.walk() if part.get_param("name", header="content-disposition") == "uploadfile")
    return part.get_payload(decode=True)


def answered(
    server: KfpServer, method: str, path: str, query: dict[str, str], body: dict[str, Any], form: bytes | None
) -> dict[str, Any]:
    """What the API answers."""
    match method, path.split("/"):
        case "GET", ["healthz"]:
            return {"multi_user": bool(server.namespace)}
        case "GET", ["pipelines"]:
            return join_problems("pipelines", server.pipelines, query)
        case "POST", ["pipelines"]:
            return stored(server.pipelines, _checked(body, "V2beta1Pipeline"), "pipeline_id")
        case "GET", ["pipelines", pipeline_id, "versions"]:
            of_pipeline = {key: v for key, v in server.versions.items() if v["pipeline_id"] == pipeline_id}
            return join_problems("pipeline_versions", of_pipeline, query)
        case "POST", ["pipelines", "upload_version"]:
            assert form is not None
            yaml.safe_load(form.split(b"\n---")[0])
            version = {"pipeline_id": query["pipelineid"], "display_name": query["name"]}
            return stored(server.versions, version, "pipeline_version_id")
        case "GET", ["experiments"]:
            return join_problems("experiments", server.experiments, query)
        case "POST", ["experiments"]:
            return stored(server.experiments, _checked(body, "V2beta1Experiment"), "experiment_id")
        case "POST", ["runs"]:
            return stored(server.runs, _checked(body, "V2beta1Run"), "run_id", unique=False)
        case "GET", ["runs", run_id] if run_id in server.runs:
            state = server.states.pop(0) if len(server.states) > 1 else (server.states or [{}])[0]
            return server.runs[run_id] | state
        case "GET", ["recurringruns"]:
            return join_problems("recurringRuns", server.schedules, query)
        case "POST", ["recurringruns"]:
            return stored(server.schedules, _checked(body, "V2beta1RecurringRun"), "recurring_run_id", unique=False)
        case "DELETE", ["recurringruns", schedule] if schedule in server.schedules:
            del server.schedules[schedule]
            return {}
    raise _Refused(404, f"{method} {path}: not found")


def join_problems(name: str, items: dict[str, dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
    """Items that pass the filter, which may ask for equality alone."""
    predicates = json.loads(query["filter"])["predicates"] if "filter" in query else []
    assert all(predicate["operation"] in ("EQUALS", 1) for predicate in predicates)
    wanted = {predicate["key"]: predicate["stringValue"] for predicate in predicates}
    return {name: [item for item in items.values() if wanted.items() <= item.items()]}


def stored(
    items: dict[str, dict[str, Any]], item: dict[str, Any], id_name: str, *, unique: bool = True
) -> dict[str, Any]:
    """Keep an item under a new id; names of pipelines, versions and experiments are unique."""
    if unique and any(item["display_name"] == other["display_name"] for other in items.values()):
        raise _Refused(409, f"already exists: {item['display_name']}")
    key = f"{id_name.removesuffix('_id')}-{len(items) + 1}"
    items[key] = item | {id_name: key}
    return items[key]


@contextmanager
def running(token: str = "", namespace: str = "") -> Iterator[KfpServer]:
    """Run the server on a free port of this machine."""
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
