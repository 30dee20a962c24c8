"""The connection to a Kubeflow Pipelines API, with one-line errors."""

import contextlib
import functools
import io
import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kfp
import kfp_server_api  # type: ignore[import-untyped]
import urllib3
from kfp_server_api.rest import RESTClientObject  # type: ignore[import-untyped]

from components.runtime.errors import InputError
from pipelines.cluster.login import log_in

_TIMEOUT_S = (10, 300)  # to connect, and to respond
_UI_PATH = "/pipeline"  # where the full Kubeflow serves ml-pipeline-ui, and with it the API
_LOG_IN = "log in again: pass a fresh token with --token-file, or --username and --password-file"
_HINTS = {
    401: f"the token is missing, wrong or expired; {_LOG_IN}",
    403: "this account lacks permission in the namespace, or is not logged in; request the role kubeflow-edit, "
    "change --namespace, or pass --token-file",
    404: "check that --host is the Kubeflow Pipelines API and that --namespace exists",
}


class LoginError(InputError):
    """The API requires a login, or the token or session has expired."""


@dataclass(frozen=True)
class Cluster:
    """Address and credentials of a Kubeflow Pipelines API."""

    host: str | None = None  # its address; None for the cluster this process runs in, or kubectl's current context
    namespace: str | None = None  # the user's namespace on a multi-user Kubeflow; None on a single-user one
    token_file: Path | None = None  # file with a bearer token; None for the pod's service account, or no token
    ca_file: Path | None = None  # certificate of the authority that signed the API's certificate; None for the system's
    username: str | None = None  # for a login at Dex, instead of a token
    password_file: Path | None = None

    def __post_init__(self) -> None:
        """Validate the credentials."""
        if (self.username is None) != (self.password_file is None):
            raise InputError("--username and --password-file: expected both or neither")
        if self.username is not None and self.token_file is not None:
            raise InputError("--username and --token-file: expected one of them")
        if self.username is not None and not self.host:
            raise InputError("--username: expected with --host, the address of the Kubeflow gateway")

    def connect(self) -> "ApiClient":
        """Log in and find the API at the first call, and return the same client at each.

        Raises:
            InputError: the token is unreadable, the login fails, or the address is invalid or not that of the API.
        """
        return self._client

    def reconnect(self) -> "ApiClient":
        """Connect anew: read the token again, or log in again."""
        self.__dict__.pop("_client", None)
        return self._client

    @functools.cached_property
    def _client(self) -> "ApiClient":
        if self.host and not re.match(r"https?://", self.host):
            raise InputError(f"--host {self.host}: not a URL; expected http://… or https://…")
        token = None if self.token_file is None else _read_secret(self.token_file, "token")
        cookies = None
        if self.host and self.username and self.password_file:
            password = _read_secret(self.password_file, "password")
            cookies = log_in(self.host.rstrip("/"), self.username, password, self.ca_file)
        with api_call(self.host), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # kfp's note on servers of its version 1
            # kfp takes `namespace` for the one where the API runs, hence never a user's.
            ca_file = None if self.ca_file is None else str(self.ca_file)
            client = ApiClient(host=self.host, existing_token=token, cookies=cookies, ssl_ca_cert=ca_file)
            client.find_api()
        return client


def check_api(cluster: Cluster) -> None:
    """Make requests to the API; raise `InputError` if it is unreachable, or rejects them."""
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
        kind = LoginError if error.status in (401, 403) else InputError
        raise kind(f"{address} responded {error.status}: {_message(error)}{hint}") from error
    except urllib3.exceptions.HTTPError as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(f"{address} is unreachable ({reason}); check --host and the port forwarding") from error


def _message(error: kfp_server_api.ApiException) -> str:
    """The API's message, or the text of what stands before it: "Jwt is expired" from Istio; no HTML."""
    with contextlib.suppress(TypeError, ValueError, KeyError):
        return str(json.loads(error.body)["message"])
    is_text = bool(error.body) and not error.body.lstrip().startswith(("<", "{"))
    return str(error.body[:200] if is_text else error.reason)


class ApiClient(kfp.Client):
    """kfp's client, which rejects responses that are not the API's and accepts an address with or without /pipeline."""

    address: str  # where the API is
    has_ui: bool  # whether the UI is at that address too: not if the API's own port is forwarded
    is_multi_user: bool

    def __init__(self, **arguments: Any) -> None:
        """Create the client without a request."""
        super().__init__(**arguments)
        self._api = self._run_api.api_client
        self._api.rest_client = _JsonClient(self._existing_config)
        self.address = self._existing_config.host.rstrip("/")

    def get_kfp_healthz(self, sleep_duration: int = 0) -> kfp_server_api.V2beta1GetHealthzResponse:
        """Answer for kfp's constructor, which would store the namespace of a multi-user Kubeflow in a file."""
        return kfp_server_api.V2beta1GetHealthzResponse(multi_user=False)

    def call(self, path: str, *, query: dict[str, str] | None = None, response_type: str | None = "object") -> Any:
        """GET a path that kfp has no method for: its JSON, or the open response if `response_type` is None."""
        arguments = {"response_type": response_type, "_preload_content": response_type is not None}
        return self._api.call_api(
            path,
            "GET",
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json"},
            auth_settings=["Bearer"],
            _return_http_data_only=True,
            **arguments,
        )

    def find_api(self) -> None:
        """Find the API at the address, with or without /pipeline, and what it offers."""
        plain = self.address.removesuffix(_UI_PATH)
        candidates = [self.address, plain if plain != self.address else plain + _UI_PATH]
        failures: list[Exception] = []
        for self.address in candidates:
            self._existing_config.host = self.address
            try:
                health = self.call("/apis/v2beta1/healthz")
            except (kfp_server_api.ApiException, InputError) as error:
                failures.append(error)
            else:
                self.has_ui = "frontendCommitHash" in health  # frontend/server/handlers/healthz.ts
                self.is_multi_user = bool(health.get("multi_user"))
                return
        raise next((error for error in failures if _is_login(error)), failures[0])


def _is_login(error: Exception) -> bool:
    return isinstance(error, LoginError) or getattr(error, "status", None) in (401, 403)


class _JsonClient(RESTClientObject):
    def request(self, method: str, url: str, **arguments: Any) -> Any:
        """Make a request; raise `InputError` for a page, which kfp would take for an object without fields."""
        credentials = {"authorization", "cookie"} & {name.lower() for name in arguments.get("headers") or {}}
        arguments["_request_timeout"] = arguments.get("_request_timeout") or _TIMEOUT_S
        response = super().request(method, url, **arguments)
        if not arguments.get("_preload_content", True):  # a file, which may be a page; the API and the UI redirect none
            if any(attempt.redirect_location for attempt in response.retries.history):
                raise _page_error(url, response, bool(credentials))
            return response
        try:
            json.loads(response.data)
        except ValueError as error:
            raise _page_error(url, response.urllib3_response, bool(credentials)) from error
        return response


def _page_error(url: str, response: Any, has_credentials: bool) -> InputError:
    """The error for a page of something else; `response` is urllib3's."""
    address = re.split(r"/apis/|/artifacts/", url)[0]
    page = response.data.decode(errors="replace")
    path = urlsplit(response.url or url).path
    if re.search(r"/(dex|oauth2|auth|login|signin)\b", path) or 'type="password"' in page:
        reason = "the token or session has expired" if has_credentials else "it requires a login"
        return LoginError(f"{address} responded with a login page instead of JSON: {reason}; {_LOG_IN}")
    title = re.search(r"<title>([^<]*)", page)
    found = f"the page {title[1].strip()!r}" if title else "no JSON"
    return InputError(f"{address} is not the Kubeflow Pipelines API: it responded with {found}; check --host")


def _read_secret(path: Path, kind: str) -> str:
    try:
        secret = path.expanduser().read_text().strip("\r\n" if kind == "password" else None)
    except OSError as error:
        raise InputError(f"{path}: the {kind} cannot be read: {error.strerror}") from error
    if not secret or (kind == "token" and len(secret.split()) != 1):
        raise InputError(f"{path}: does not contain a {kind}; expected one {'line' if kind == 'password' else 'word'}")
    return secret
