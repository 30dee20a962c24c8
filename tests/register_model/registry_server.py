"""A real HTTP server of Kubeflow's Model Registry API, with the paths that the product and the published client use.

It follows kubeflow/model-registry at v0.3.8: in internal/server/openapi/api_model_registry_service.go an unknown field
is 400 and a created object 201; in internal/core/*.go nothing found is 404 and an existing name 409. Request bodies are
validated by the generated models of the published client.
"""

import json
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import mr_openapi

_FINDERS = {"registered_model": "models", "model_version": "versions", "model_artifact": "artifacts"}


@dataclass
class Registry:
    """The registry's objects, and the failures to inject."""

    url: str = ""
    api: str = "v1"  # releases since 2026; v1alpha3 before
    token: str = ""
    models: list[dict[str, Any]] = field(default_factory=list)
    versions: list[dict[str, Any]] = field(default_factory=list)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    refuse: dict[str, int] = field(default_factory=dict)  # status by method and path
    page: str = ""  # answered to everything, as by a login page

    def properties(self) -> dict[str, Any]:
        """Values of the only version's custom properties."""
        (version,) = self.versions
        values = version["customProperties"].items()
        return {name: next(v for k, v in value.items() if k.endswith("_value")) for name, value in values}


class _ApiError(Exception):
    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


def _respond(
    registry: Registry, method: str, path: str, query: dict[str, str], body: dict[str, Any]
) -> tuple[int, dict[str, Any]]:
    match method, path.split("/"):
        case "GET", [finder] if finder in _FINDERS:
            parent = query.get("parentResourceId")
            if "name" not in query or (finder != "registered_model" and not (parent or "").isdecimal()):
                raise _ApiError(400, "invalid parameters call")
            for item in getattr(registry, _FINDERS[finder]):
                if item["name"] == query["name"] and item.get("parent") in (None, parent):
                    return 200, {key: value for key, value in item.items() if key != "parent"}
            raise _ApiError(404, f"no {finder} found for name={query['name']}")
        case "GET", ["registered_models"]:
            return 200, {"items": registry.models, "nextPageToken": "", "pageSize": 1, "size": len(registry.models)}
        case "POST", ["registered_models"]:
            return 201, _store(registry.models, _validate(body, mr_openapi.RegisteredModelCreate))
        case "POST", ["model_versions"]:
            version = _validate(body, mr_openapi.ModelVersionCreate)
            return 201, _store(registry.versions, version, parent=version["registeredModelId"])
        case "POST", ["model_versions", version_id, "artifacts"]:
            if version_id not in [item["id"] for item in registry.versions]:
                raise _ApiError(404, f"no model version found for id {version_id}")
            if body.get("artifactType") != "model-artifact":
                raise _ApiError(400, "unknown discriminator")
            return 201, _store(registry.artifacts, _validate(body, mr_openapi.ModelArtifact), parent=version_id)
    raise _ApiError(404, "404 page not found")


def _validate(body: dict[str, Any], model: Any) -> dict[str, Any]:
    known = {info.alias or name for name, info in model.model_fields.items()}
    if unknown := set(body) - known:
        raise _ApiError(400, f"json: unknown field {min(unknown)!r}")
    try:
        model.from_dict(body)
    except ValueError as error:
        raise _ApiError(400, str(error)) from error
    return body


def _store(items: list[dict[str, Any]], item: dict[str, Any], parent: str | None = None) -> dict[str, Any]:
    if any((item["name"], parent) == (other["name"], other["parent"]) for other in items):
        raise _ApiError(409, f"{item['name']} already exists: conflict")
    stored = item | {"id": str(len(items) + 1), "state": "LIVE"}
    items.append(stored | {"parent": parent})
    return stored


def _handler(registry: Registry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def reply(self) -> None:
            parts = urllib.parse.urlsplit(self.path)
            path = parts.path.removeprefix(f"/api/model_registry/{registry.api}/")
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            try:
                if registry.token and self.headers.get("Authorization") != f"Bearer {registry.token}":
                    raise _ApiError(401, "unauthorized")
                if status := registry.refuse.get(f"{self.command} {path}"):
                    raise _ApiError(status, "injected")
                query = dict(urllib.parse.parse_qsl(parts.query))
                status, answer = _respond(registry, self.command, path, query, body)
            except _ApiError as error:
                status, answer = error.status, {"code": "", "message": str(error)}
            content = registry.page.encode() or json.dumps(answer).encode()
            self.send_response(200 if registry.page else status)
            self.send_header("Content-Type", "text/html" if registry.page else "application/json; charset=UTF-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = reply

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@contextmanager
def run_registry() -> Iterator[Registry]:
    """Run the registry on a free local port."""
    registry = Registry()
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(registry))
    registry.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
