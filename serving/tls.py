"""TLS certificates of servers and clients, validated when they are read, not on the first request."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509

from components.runtime.errors import InputError


@dataclass(frozen=True)
class ServerTls:
    """A server's certificate, and the clients it accepts."""

    certificate: Path  # PEM of the server's certificate chain
    key: Path  # PEM of its private key
    # PEM of the authority that must have signed client certificates; None accepts every client.
    client_ca: Path | None = None

    def for_grpc(self) -> Any:
        """Build gRPC server credentials; raise `InputError` for a missing or unsuitable file."""
        self.for_http()  # validates the files; gRPC does not
        ca = None if self.client_ca is None else _read(self.client_ca)
        pair = _read(self.key), _read(self.certificate)
        return grpc.ssl_server_credentials([pair], ca, require_client_auth=ca is not None)

    def problem(self) -> str:
        """Say why clients reject the certificate today; empty if it is valid; raises as `for_grpc`."""
        self.for_http()
        try:
            certificate = x509.load_pem_x509_certificates(_read(self.certificate))[0]
        except ValueError as error:  # stricter than OpenSSL
            raise InputError(f"{self.certificate}: expected a PEM certificate ({error})") from error
        start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if start <= datetime.now(UTC) <= end:
            return ""
        period = f"{start:%Y-%m-%d} to {end:%Y-%m-%d}"
        return f"{self.certificate}: certificate is valid from {period}; clients reject it today; renew it"

    def for_http(self) -> ssl.SSLContext:
        """Build the context for the REST port; raises as `for_grpc`."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        _load_pair(context, self.certificate, self.key)
        if self.client_ca is not None:
            _load_ca(context, self.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


@dataclass(frozen=True)
class ClientTls:
    """The authority a client trusts, and its own certificate."""

    ca: Path | None = None  # PEM of the authority that signed the server's certificate; None for the public authorities
    certificate: Path | None = None  # PEM of the client's certificate, for servers that require one
    key: Path | None = None  # PEM of its private key

    @classmethod
    def from_arguments(cls, arguments: Any) -> "ClientTls | None":
        """Read the options of `serving.arguments.add_tls`; None for plaintext."""
        paths = arguments.ca, arguments.client_certificate, arguments.client_key
        return cls(*paths) if arguments.tls or any(paths) else None

    def credentials(self) -> Any:
        """Build gRPC channel credentials; raise `InputError` for a missing or unsuitable file."""
        context = ssl.create_default_context()
        if self.ca is not None:
            _load_ca(context, self.ca)
        if self.certificate is not None and self.key is not None:
            _load_pair(context, self.certificate, self.key)
        elif self.certificate or self.key:
            raise InputError(f"{self.certificate or self.key}: expected a client certificate and its key; give both")
        return grpc.ssl_channel_credentials(
            *(None if path is None else _read(path) for path in (self.ca, self.key, self.certificate))
        )


def _load_pair(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    # OpenSSL would ask for the passphrase of an encrypted key on the terminal.
    load = partial(context.load_cert_chain, password=lambda: b"")
    _load(load, "a PEM certificate and its private key without a passphrase", certificate, key)


def _load_ca(context: ssl.SSLContext, ca: Path) -> None:
    _load(context.load_verify_locations, "the PEM certificate of an authority", ca)


def _load(load: Callable[..., None], expected: str, *paths: Path) -> None:
    for path in paths:
        _read(path)
    try:
        load(*paths)
    except ssl.SSLError as error:
        reason = f" ({error.reason})" if error.reason else ""  # OpenSSL gives none for what is not PEM
        raise InputError(f"{', '.join(map(str, paths))}: expected {expected}{reason}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
