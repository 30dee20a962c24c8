"""Why a connection fails: gRPC reports a port that requires TLS, or a certificate, as "Socket closed"."""

import socket
import ssl

from components.runtime.errors import InputError
from serving.tls import ClientTls

_TIMEOUT_S = 3.0


def diagnose(target: str, tls: ClientTls | None) -> str:
    """Try a TLS handshake with `host:port`; return what the client lacks, or an empty text."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # nothing is sent: the server's certificate does not matter
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    has_certificate = tls is not None and tls.certificate is not None
    if tls is not None and tls.certificate is not None:
        context.load_cert_chain(tls.certificate, tls.key)
    try:
        host, port = split_target(target)
        with socket.create_connection((host, int(port)), _TIMEOUT_S) as plain, context.wrap_socket(plain) as secure:
            rejected = not _greets(secure)
    except ssl.SSLError as error:
        plaintext = error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST") and tls is not None
        return "that port does not use TLS, and the client does not fall back to plaintext" if plaintext else ""
    except (OSError, InputError):
        return ""
    lacking = [] if tls is not None else ["TLS (--tls, or --ca with its certificate authority)"]
    if rejected and not has_certificate:
        lacking.append("a client certificate (--client-certificate and --client-key)")
    if lacking:
        return f"the server requires {' and '.join(lacking)}"
    return f"the server rejects the client certificate {tls.certificate}" if rejected and tls is not None else ""


def _greets(connection: ssl.SSLSocket) -> bool:
    """Whether the server sends HTTP/2 settings: in TLS 1.3, it checks a certificate after the client's handshake."""
    try:
        return bool(connection.recv(1))
    except (ssl.SSLError, ConnectionError):  # an alert, or the connection is closed
        return False
    except TimeoutError:
        return True


def split_target(target: str) -> tuple[str, str]:
    """Split a gRPC target into host and port; raise `InputError` for another form."""
    host, _, port = target.removeprefix("dns:///").rpartition(":")
    if not (host and port.isdecimal()):
        raise InputError(f"{target}: expected HOST:PORT of a server's gRPC endpoint")
    return host.strip("[]"), port
