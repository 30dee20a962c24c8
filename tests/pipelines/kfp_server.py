"""A real HTTP server of the Kubeflow Pipelines API (v2beta1), with the paths that the product uses.

Request bodies are validated by the published kfp-server-api models; an unknown field gets status 400, as from the API.
It is the API's own port (backend/src/apiserver/main.go), ml-pipeline-ui with the API at two paths and the artifacts
(frontend/server/app.ts), or that behind the gateway of a full Kubeflow (kubeflow_gateway.py).
"""

import email
import json
import threading
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import kfp_server_api
import yaml

from tests.pipelines.kubeflow_gateway import Gateway

_API = "/apis/v2beta1/"
_UI_PATH = "/pipeline"
_KUBECTL_PATH = "/api/v1/namespaces/kubeflow/services/ml-pipeline:http/proxy"  # the Kubernetes API's way to a service


@dataclass
class KfpServer:
    """The cluster's objects by id, and the failures to inject."""

    url: str = ""
    token: str = ""
    namespace: str = ""
    kind: Literal["api", "ui", "kubeflow"] = "ui"
    gateway: Gateway = field(default_factory=Gateway)
    artifacts: dict[str, bytes] = field(default_factory=dict)  # by source, bucket and key
    workflow: str = "{}"  # of every run, unless a backend executes it
    backend: Any = None  # executes runs; a `backend.Backend`
    pipelines: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    schedules: dict[str, dict[str, Any]] = field(default_factory=dict)
    states: list[dict[str, Any]] = field(default_factory=list)  # the run at each successive request
    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)  # "POST runs": status and message
    unavailable: int = 0  # number of next GETs that get status 503
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
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(parts.query))
            server.requests.append(f"{method} {parts.path.removeprefix(_UI_PATH).removeprefix(_API)}")
            if server.kind == "kubeflow":
                reply = server.gateway.answer(method, self.path, self.headers, content)
                if reply is not None:
                    self.send(reply.status, reply.body.encode(), reply.content_type, reply.headers)
                    return
            path = parts.path.removeprefix(_KUBECTL_PATH if server.kind == "api" else _UI_PATH)
            if server.kind != "api" and path.startswith("/artifacts/"):
                self.send(*read_artifact(server, path.removeprefix("/artifacts/"), query))
                return
            if not path.startswith("/apis/"):
                self.send(404, b"404 page not found\n", "text/plain")
                return
            path = path.removeprefix(_API)
            form = read_uploaded_file(self, content) if path.endswith("upload_version") else None
            body = json.loads(content) if content and form is None else {}
            try:
                if server.token and self.headers.get("Authorization") != f"Bearer {server.token}":
                    raise _ApiError(401, "unauthenticated")
                if f"{method} {path}" in server.refuse:
                    raise _ApiError(*server.refuse[f"{method} {path}"])
                if method == "GET" and server.unavailable:
                    server.unavailable -= 1
                    raise _ApiError(503, "upstream connect error")
                status, answer = 200, respond(server, method, path, query, body, form)
                if method == "POST" and server.lost_writes:
                    server.lost_writes -= 1
                    raise _ApiError(503, "upstream connect error")
            except _ApiError as error:
                status, answer = error.status, {"code": error.status, "message": str(error)}
            self.send(status, json.dumps(answer).encode(), "application/json")

        def send(self, status: int, content: bytes, content_type: str, headers: Sequence[tuple[str, str]] = ()) -> None:
            self.send_response(status)
            for header in (*headers, ("Content-Type", content_type), ("Content-Length", str(len(content)))):
                self.send_header(*header)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = reply

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


def read_artifact(server: KfpServer, location: str, query: dict[str, str]) -> tuple[int, bytes, str]:
    """A file of the object store (frontend/server/handlers/artifacts.ts)."""
    if server.namespace and query.get("namespace") != server.namespace:
        return 400, b"Namespace parameter is required when authentication is enabled", "text/html"
    if location not in server.artifacts:
        return 404, f"No objects found at {location}".encode(), "text/html"
    return 200, server.artifacts[location], "application/octet-stream"


def pipeline_spec(package: bytes) -> dict[str, Any]:
    """The specification as the API stores it (api_util.go, `YamlStringToPipelineSpecStruct`)."""
    documents = list(yaml.safe_load_all(package))
    platform = [document for document in documents if "platforms" in document]
    (spec,) = (document for document in documents if "platforms" not in document)
    return {"pipeline_spec": spec, "platform_spec": platform[0]} if platform else spec


def read_uploaded_file(handler: BaseHTTPRequestHandler, content: bytes) -> bytes:
    """The file of a multipart form."""
    message = email.message_from_bytes(b"Content-Type: " + handler.headers["Content-Type"].encode() + b"\n\n" + content)
    (part,) = (part for part in message.walk() if part.get_param("name", header="content-disposition") == "uploadfile")
    return part.get_payload(decode=True)


def respond(
    server: KfpServer, method: str, path: str, query: dict[str, str], body: dict[str, Any], form: bytes | None
) -> dict[str, Any]:
    """Respond like the API."""
    match method, path.split("/"):
        case "GET", ["healthz"]:
            health = {"commit_sha": "", "tag_name": "2.17.0", "multi_user": bool(server.namespace)}
            return health if server.kind == "api" else health | {"frontendCommitHash": "", "apiServerReady": True}
        case "GET", ["pipelines"]:
            return list_items("pipelines", server.pipelines, query)
        case "POST", ["pipelines"]:
            return store(server.pipelines, _validate(body, "V2beta1Pipeline"), "pipeline_id")
        case "GET", ["pipelines", pipeline_id, "versions"]:
            of_pipeline = {key: v for key, v in server.versions.items() if v["pipeline_id"] == pipeline_id}
            return list_items("pipeline_versions", of_pipeline, query)
        case "POST", ["pipelines", "upload_version"]:
            assert form is not None
            version = {"pipeline_id": query["pipelineid"], "display_name": query["name"]}
            version["pipeline_spec"] = pipeline_spec(form)
            return store(server.versions, version, "pipeline_version_id")
        case "GET", ["pipelines", _, "versions", version_id] if version_id in server.versions:
            return server.versions[version_id]
        case "DELETE", ["pipelines", _, "versions", version_id] if version_id in server.versions:
            del server.versions[version_id]
            return {}
        case "DELETE", ["pipelines", pipeline_id] if pipeline_id in server.pipelines:
            of_pipeline = [key for key, version in server.versions.items() if version["pipeline_id"] == pipeline_id]
            if of_pipeline and query.get("cascade") not in ("true", "True"):  # resource_manager.go, `DeletePipeline`
                raise _ApiError(400, f"Failed to delete pipeline with id {pipeline_id} as it has existing versions")
            for key in of_pipeline:
                del server.versions[key]
            del server.pipelines[pipeline_id]
            return {}
        case "GET", ["experiments", experiment_id] if experiment_id in server.experiments:
            return server.experiments[experiment_id]
        case "DELETE", ["experiments", experiment_id] if experiment_id in server.experiments:
            del server.experiments[experiment_id]
            return {}
        case "DELETE", ["runs", run_id] if run_id in server.runs:
            del server.runs[run_id]
            if server.backend is not None:
                server.backend.stop(run_id)
            return {}
        case "GET", ["", "apis", "v1beta1", "runs", run_id] if run_id in server.runs:
            workflow = json.dumps(server.backend.workflows[run_id]) if server.backend else server.workflow
            return {"run": {"id": run_id}, "pipeline_runtime": {"workflow_manifest": workflow}}
        case "GET", ["experiments"]:
            return list_items("experiments", server.experiments, query)
        case "POST", ["experiments"]:
            return store(server.experiments, _validate(body, "V2beta1Experiment"), "experiment_id")
        case "POST", ["runs"]:
            run = store(server.runs, _validate(body, "V2beta1Run"), "run_id", unique=False)
            if server.backend is not None:
                version_id = run["pipeline_version_reference"]["pipeline_version_id"]
                server.backend.start(run, server.versions[version_id]["pipeline_spec"])
            return run
        case "GET", ["runs", run_id] if run_id in server.runs:
            state = dict(server.states.pop(0) if len(server.states) > 1 else (server.states or [{}])[0])
            server.workflow = state.pop("workflow", server.workflow)
            return server.runs[run_id] | state
        case "GET", ["recurringruns"]:
            schedules = {
                key: schedule
                for key, schedule in server.schedules.items()
                if query.get("experiment_id") in (None, schedule["experiment_id"])
            }
            return list_items("recurringRuns", schedules, query)
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
def run_kfp_server(**settings: Any) -> Iterator[KfpServer]:
    """Run the server, with the settings of `KfpServer`, on a free local port."""
    server = KfpServer(**settings)
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
