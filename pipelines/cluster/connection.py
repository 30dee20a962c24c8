"""The connection to a cluster's Kubeflow Pipelines API, and what it answers in words."""

import contextlib
import io
import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kfp
import kfp_server_api  # type: ignore[import-untyped]
import urllib3

from components.runtime.errors import InputError

_HINTS = {
    401: "the token is missing, wrong or expired; give a fresh one by --token-file",
    403: "this user may not do that in this namespace; ask for the role kubeflow-edit, or choose another --namespace",
    404: "is this the address of the Kubeflow Pipelines API, and the right --namespace?",
}


@dataclass(frozen=True)
class Cluster:
    """Where the Kubeflow Pipelines API is, and who asks.

    Attributes:
        host: its address; None for the cluster this process runs in, or the one kubectl is set up for.
        namespace: the user's namespace where Kubeflow has several users; empty for a single user's.
        token_file: file with a bearer token; None for the pod's own service account, or none.
        ca_file: the authority that signed the API's certificate; None for the system's.
    """

    host: str | None = None
    namespace: str = ""
    token_file: Path | None = None
    ca_file: Path | None = None

    def connect(self) -> kfp.Client:
        """Make a client.

        Raises:
            InputError: the token cannot be read, or no address is known.
        """
        token = None if self.token_file is None else _read_token(self.token_file)
        if self.host and not re.match(r"https?://", self.host):
            raise InputError(f"{self.host}: is no address; expected http://… or https://…")
        with translate_api_errors(self.host), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore", FutureWarning)  # kfp's note on servers of its version 1
            return _Client(
                host=self.host,
                existing_token=token,
                # "kubeflow" is kfp's word for: where the API lies, and no user's namespace.
                namespace=self.namespace or "kubeflow",
                ssl_ca_cert=None if self.ca_file is None else str(self.ca_file),
            )


def answers(cluster: Cluster) -> None:
    """See whether the API answers this user.

    Raises:
        InputError: it does not, or refuses.
    """
    client = cluster.connect()
    with translate_api_errors(cluster.host):
        client.list_pipelines(namespace=cluster.namespace or None, page_size=1)


@contextlib.contextmanager
def translate_api_errors(host: str | None) -> Iterator[None]:
    """Turn what the API answers, or that it does not, into an InputError."""
    where = host or "the cluster"
    try:
        yield
    except kfp_server_api.ApiException as error:
        if not error.status:
            raise InputError(f"{where}: {error.reason}") from error
        said = _said(error.body)
        hint = _HINTS.get(error.status)
        raise InputError(
            f"{where} answered {error.status}: {said or error.reason}{f'; {hint}' if hint else ''}"
        ) from error
    except urllib3.exceptions.HTTPError as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(
            f"{where} does not answer ({reason}); is the address right, and the port forwarded?"
        ) from error


def _said(body: Any) -> str:
    """What an error's body says, in one line."""
    try:
        return str(json.loads(body)["message"])
    except (TypeError, ValueError, KeyError):
        return ""


class _Client(kfp.Client):
    def get_kfp_healthz(self, sleep_duration: int = 0) -> kfp_server_api.V2beta1GetHealthzResponse:
        """Ask once: kfp would ask five times, 5 s apart, with a traceback each, where the token is wrong."""
        return self._healthz_api.healthz_service_get_healthz()


def _read_token(path: Path) -> str:
    try:
        token = path.expanduser().read_text().strip()
    except OSError as error:
        raise InputError(f"{path}: the token cannot be read: {error.strerror}") from error
    if not token or len(token.split()) != 1:
        raise InputError(f"{path}: holds no token; expected one word")
    return token
