"""The connection to a Kubeflow Pipelines API, with one-line errors."""

import contextlib
import io
import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import kfp
import kfp_server_api  # type: ignore[import-untyped]
import urllib3

from components.runtime.errors import InputError

_HINTS = {
    401: "the token is missing, wrong or expired; pass a fresh one with --token-file",
    403: "this account lacks permission in the namespace; request the role kubeflow-edit or change --namespace",
    404: "check that --host is the Kubeflow Pipelines API and that --namespace exists",
}


@dataclass(frozen=True)
class Cluster:
    """Address and credentials of a Kubeflow Pipelines API."""

    host: str | None = None  # its address; None for the cluster this process runs in, or kubectl's current context
    namespace: str | None = None  # the user's namespace on a multi-user Kubeflow; None on a single-user one
    token_file: Path | None = None  # file with a bearer token; None for the pod's service account, or no token
    ca_file: Path | None = None  # certificate of the authority that signed the API's certificate; None for the system's

    def connect(self) -> kfp.Client:
        """Create a client; raise `InputError` if the token is unreadable, or the address is invalid or unknown."""
        token = None if self.token_file is None else _read_token(self.token_file)
        if self.host and not re.match(r"https?://", self.host):
            raise InputError(f"--host {self.host}: not a URL; expected http://… or https://…")
        with api_call(self.host), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # kfp's note on servers of its version 1
            return _Client(
                host=self.host,
                existing_token=token,
                namespace=self.namespace or "kubeflow",  # kfp's default: where the API runs, not a user namespace
                ssl_ca_cert=None if self.ca_file is None else str(self.ca_file),
            )


def check_api(cluster: Cluster) -> None:
    """Make one request to the API; raise `InputError` if it is unreachable, or rejects the request."""
    client = cluster.connect()
    with api_call(cluster.host):
        client.list_pipelines(namespace=cluster.namespace, page_size=1)


@contextlib.contextmanager
def api_call(host: str | None) -> Iterator[None]:
    """Raise API and connection errors as `InputError`, and suppress what kfp prints."""
    address = host or "the cluster"
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except kfp_server_api.ApiException as error:
        if not error.status:
            raise InputError(f"{address}: {error.reason}") from error
        hint = f"; {_HINTS[error.status]}" if error.status in _HINTS else ""
        raise InputError(f"{address} responded {error.status}: {_message(error)}{hint}") from error
    except urllib3.exceptions.HTTPError as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(f"{address} is unreachable ({reason}); check --host and the port forwarding") from error


def _message(error: kfp_server_api.ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)


class _Client(kfp.Client):
    def get_kfp_healthz(self, sleep_duration: int = 0) -> kfp_server_api.V2beta1GetHealthzResponse:
        """Make one request; with a wrong token, kfp makes five, 5 s apart, and prints a traceback each time."""
        return self._healthz_api.healthz_service_get_healthz()


def _read_token(path: Path) -> str:
    try:
        token = path.expanduser().read_text().strip()
    except OSError as error:
        raise InputError(f"{path}: the token cannot be read: {error.strerror}") from error
    if len(token.split()) != 1:
        raise InputError(f"{path}: does not contain a token; expected one word")
    return token
