"""Registration of a version in Kubeflow's Model Registry, through its REST API.

The `model-registry` client is not used: a release of it speaks one API version, and it cannot complete an interrupted
registration.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from components.runtime.errors import InputError

# Metrics of evaluate to register.
SCORES = ("test_dice", "test_dice_ci_low", "test_dice_ci_high", "test_cases", "test_cases_with_lesion")
_API_VERSIONS = ("v1", "v1alpha3")  # the second one in Kubeflow 1.11 and earlier
_AUTHOR = "lung-ct"
_TIMEOUT_S = 60.0
# Where the model-registry client looks for the pod's token, too.
_TOKEN_VARIABLE, _TOKEN_FILE = "KF_PIPELINES_SA_TOKEN_PATH", "/var/run/secrets/kubernetes.io/serviceaccount/token"

_log = logging.getLogger(__name__)
_Json = dict[str, Any]


@dataclass(frozen=True)
class Registration:
    """What the registry records about a version."""

    model_name: str
    location: str  # path or URI of the version folder
    manifest_sha256: str
    properties: Mapping[str, str | float]
    run_id: str = ""
    run_name: str = ""


def register(registration: Registration, address: str) -> None:
    """Register a version unless it is registered already; complete what an interrupted registration left.

    Raises:
        InputError: the registry cannot be reached or rejects the request, or another version has this number.
    """
    name, number = registration.model_name, registration.location.rpartition("/")[2]
    with _connect(address) as registry:
        model = registry.find("registered_model", name=name)
        model = model or registry.create("registered_models", {"name": name, "owner": _AUTHOR})
        version = registry.find("model_version", name=number, parentResourceId=model["id"])
        version = version or registry.create(
            "model_versions",
            {
                "name": number,
                "author": _AUTHOR,
                "registeredModelId": model["id"],
                "customProperties": _properties(registration),
            },
        )
        artifact = registry.find("model_artifact", name=name, parentResourceId=version["id"])
        artifact = artifact or registry.create(f"model_versions/{version['id']}/artifacts", _artifact(registration))
    manifest_sha256 = version.get("customProperties", {}).get("manifest_sha256", {}).get("string_value")
    if (manifest_sha256, artifact.get("uri")) != (registration.manifest_sha256, registration.location):
        raise InputError(
            f"{name} version {number}: registered with manifest {manifest_sha256} at {artifact.get('uri')}; expected "
            f"{registration.manifest_sha256} at {registration.location}; register it under another model name"
        )
    _log.info("registered %s version %s at %s", name, number, address)


def check_registry(address: str) -> None:
    """Raise `InputError` unless the registry at an address can be used."""
    with _connect(address):
        pass


@contextmanager
def _connect(address: str) -> Iterator["_Registry"]:
    with requests.Session() as session:
        token = Path(os.environ.get(_TOKEN_VARIABLE, _TOKEN_FILE))
        if token.is_file():
            session.headers["Authorization"] = f"Bearer {token.read_text().strip()}"
        yield _Registry(session, address.rstrip("/"))


class _Registry:
    """The registry's API; every method raises `InputError` with one line."""

    def __init__(self, session: requests.Session, address: str):
        self._session = session
        self._address = address
        for api in _API_VERSIONS:
            self._base = f"{address}/api/model_registry/{api}"
            if self._request("GET", "registered_models", params={"pageSize": "1"}) is not None:
                return
        raise InputError(f"{address}: answered 404; expected the API of Kubeflow's Model Registry; check the address")

    def find(self, path: str, **parameters: str) -> _Json | None:
        """Find an object; None if there is none."""
        return self._request("GET", path, params=parameters)

    def create(self, path: str, body: _Json) -> _Json:
        """Create an object and return it with its id."""
        answer = self._request("POST", path, json=body)
        if answer is None:
            raise InputError(f"{self._address}: {path} is not found; expected the Model Registry; check the address")
        return answer

    def _request(self, method: str, path: str, **options: Any) -> _Json | None:
        """Return the answer's JSON object; None for 404."""
        try:
            response = self._session.request(method, f"{self._base}/{path}", timeout=_TIMEOUT_S, **options)
            answer = response.json() if response.ok else None
        except requests.JSONDecodeError:
            answer = []
        except requests.RequestException as error:
            reason = f"cannot be reached ({type(error).__name__})"
            raise InputError(f"{self._address}: {reason}; check the address of the Model Registry") from error
        if response.status_code == 404 or isinstance(answer, dict):
            return answer
        found = "no JSON object, such as a login page" if response.ok else f"{response.status_code} {response.reason}"
        raise InputError(
            f"{self._address}: {method} {path}: answered {found}; expected the Model Registry's API; check the "
            "address, and that the service account of the pipeline's pods may use the registry"
        )


def _properties(registration: Registration) -> _Json:
    properties = {**registration.properties, "manifest_sha256": registration.manifest_sha256}
    return {
        name: {"metadataType": "MetadataStringValue", "string_value": value}
        if isinstance(value, str)
        else {"metadataType": "MetadataDoubleValue", "double_value": value}
        for name, value in properties.items()
    }


def _artifact(registration: Registration) -> _Json:
    return {
        "artifactType": "model-artifact",
        "name": registration.model_name,
        "uri": registration.location,
        "modelFormatName": "tensorflow",  # with version 2, the format of KServe's TensorFlow Serving runtime
        "modelFormatVersion": "2",
        "modelSourceKind": "kfp",
        "modelSourceClass": "pipelinerun",
        "modelSourceId": registration.run_id,
        "modelSourceName": registration.run_name,
    }
