"""Ask every server that follows one `models.config` which versions it has loaded and what its labels mean."""

import socket
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from components.runtime.errors import InputError
from serving.client import messages
from serving.client.endpoint import Endpoint, Method
from serving.client.tls_diagnosis import split_target
from serving.tls import ClientTls

_STATUS = Method(
    "/tensorflow.serving.ModelService/GetModelStatus", messages.GetModelStatusRequest, messages.GetModelStatusResponse
)
_METADATA = Method(
    "/tensorflow.serving.PredictionService/GetModelMetadata",
    messages.GetModelMetadataRequest,
    messages.GetModelMetadataResponse,
)
_RELOAD = Method(
    "/tensorflow.serving.ModelService/HandleReloadConfigRequest",
    messages.ReloadConfigRequest,
    messages.ReloadConfigResponse,
)
# ModelVersionStatus.State of tensorflow_serving/apis/get_model_status.proto
_STATES = {0: "UNKNOWN", 10: "START", 20: "LOADING", 30: "AVAILABLE", 40: "UNLOADING", 50: "END"}
_TIMEOUT_S = 5.0  # for one question to one server


class LoadError(InputError):
    """A server could not load a version."""


class Address(NamedTuple):
    """A gRPC endpoint, and the name in its certificate."""

    target: str  # host:port
    certificate_name: str = ""  # empty for the host


class Replicas(AbstractContextManager["Replicas"]):
    """Servers at fixed addresses; use it in a `with` block.

    Args:
        servers: `host:port` of gRPC endpoints. A name with several addresses, such as that of a headless Service, means
            all of them, as they are at the moment of each question.
        tls: certificates; None for plaintext.
        server_name: the name in the servers' certificates; by default the host in the address.
    """

    def __init__(self, servers: Sequence[str] = (), tls: ClientTls | None = None, server_name: str = "") -> None:
        self._servers = servers
        self._tls = tls
        self._server_name = server_name

    def __exit__(self, *_: object) -> None:
        """Keep nothing: each question has its own connection."""

    def publish(self, config_file: Path) -> str:
        """Bring a `models.config` to the servers, and return the text that they get: here they read the file itself."""
        return config_file.read_text()

    def addresses(self) -> dict[str, Address]:
        """Map the name of each replica to its address."""
        return {
            target: Address(target, self._server_name or host)
            for server in self._servers
            for target, host in _resolve(server)
        }

    def failures(self, check: Callable[[Endpoint], None]) -> dict[str, InputError]:
        """Run a check on every replica; return the errors that it raises, by name."""
        errors: dict[str, InputError] = {}
        addresses = self.addresses()
        for name, address in addresses.items():
            try:
                with Endpoint(address.target, _TIMEOUT_S, self._tls, address.certificate_name) as endpoint:
                    check(endpoint)
            except InputError as error:
                errors[name] = error
        return errors if addresses else {"servers": InputError("none found")}


def require_version(endpoint: Endpoint, model: str, version: int) -> None:
    """Raise `InputError` unless a server has loaded a version, `LoadError` if it tried and failed."""
    request = messages.GetModelStatusRequest()
    request.model_spec.name = model
    for entry in endpoint.call(_STATUS, request).model_version_status:
        if entry.version == version:
            state = _STATES.get(entry.state, "UNKNOWN")
            if state == "END" and entry.status.error_message:
                raise LoadError(" ".join(entry.status.error_message.split()))
            if state == "AVAILABLE":
                return
            raise InputError(f"version {version} is {state}")
    raise InputError(f"does not know version {version}")


def require_label(endpoint: Endpoint, model: str, label: str, version: int) -> None:
    """Raise `InputError` unless a server answers a label with a version."""
    # GetModelStatus ignores labels (tensorflow/serving, model_servers/get_model_status_impl.cc).
    request = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name, request.model_spec.version_label = model, label
    actual = endpoint.call(_METADATA, request).model_spec.version.value
    if actual != version:
        raise InputError(f"{label} is version {actual}")


def reload(endpoint: Endpoint, config_text: str) -> None:
    """Hand a server the content of a `models.config`; raise `ServingError` with its words if it refuses."""
    config = text_format.Parse(config_text, ModelServerConfig())
    endpoint.call(_RELOAD, messages.ReloadConfigRequest(config=config.SerializeToString()))


def _resolve(server: str) -> list[tuple[str, str]]:
    """Look up all addresses of a name, with the name; the server itself if it has none, or is this machine."""
    host, port = split_target(server)
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)}
    except OSError:
        found = set()
    if not found or host in found or host == "localhost":  # one server, also where it has an IPv6 address
        return [(server, "")]
    return sorted((f"[{ip}]:{port}" if ":" in str(ip) else f"{ip}:{port}", host) for ip in found)
