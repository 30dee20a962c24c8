"""Certificates of the server and of its clients, checked when they are read and not with the first request."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from components.runtime.errors import InputError


@dataclass(frozen=True)
class ServerTls:
    """What a server shows, and whom it lets in.

    Attributes:
        certificate: PEM of the server's certificate and what it was signed with.
        key: PEM of its private key.
        client_ca: PEM of the authority whose certificates clients must show; None lets everyone in.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def for_grpc(self) -> Any:
        """gRPC's credentials of a server; `InputError` for a file that is no such PEM."""
        self.for_http()
        ca = None if self.client_ca is None else _content(self.client_ca)
        pair = _content(self.key), _content(self.certificate)
        return grpc.ssl_server_credentials([pair], ca, require_client_auth=ca is not None)

    def for_http(self) -> ssl.SSLContext:
        """The same for the REST port."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        _load_pair(context, self.certificate, self.key)
        if self.client_ca is not None:
            _load_ca(context, self.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


@dataclass(frozen=True)
class ClientTls:
    """What a client trusts, and what it shows.

    Attributes:
        ca: PEM of the authority that signed the server's certificate; None for the public ones.
        certificate: PEM of the client's own certificate, where the server asks for one.
        key: PEM of its private key.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def credentials(self) -> Any:
        """gRPC's credentials of a client.

        Raises:
            InputError: A file is missing or no such PEM, or a certificate goes without its key.
        """
        context = ssl.create_default_context()
        if self.ca is not None:
            _load_ca(context, self.ca)
        if (self.certificate is None) != (self.key is None):
            raise InputError("a client's certificate and its key go together; give both or none")
        if self.certificate is not None and self.key is not None:
            _load_pair(context, self.certificate, self.key)
        return grpc.ssl_channel_credentials(
            *(None if path is None else _content(path) for path in (self.ca, self.key, self.certificate))
        )


def _load_pair(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    _content(certificate), _content(key)
    try:
        context.load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        raise InputError(f"{certificate}, {key}: no PEM certificate and its private key ({error.reason})") from error


def _load_ca(context: ssl.SSLContext, ca: Path) -> None:
    _content(ca)
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise InputError(f"{ca}: no PEM certificate of an authority ({error.reason})") from error


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
