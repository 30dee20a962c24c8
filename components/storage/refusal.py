"""Servers that are not there: one that refuses connections or whose name is unknown is not waited for as long."""

import socket
from urllib.parse import urlsplit

REFUSAL_TIMEOUT_S = 3.0  # and the wait before the last attempt
_UNKNOWN_HOST = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}  # EAI_AGAIN may pass


def refusal_reason(error: BaseException | None) -> str | None:
    """Name the server that an exception or its causes report as absent; None for other failures."""
    host = "the server"
    while error is not None:
        url = getattr(getattr(error, "request", None), "url", None)
        host = urlsplit(url).netloc if url else host
        if isinstance(error, ConnectionRefusedError):
            return f"{host} refuses connections"
        if isinstance(error, socket.gaierror) and error.errno in _UNKNOWN_HOST:
            return f"{host} is an unknown host"
        error = error.__cause__ or error.__context__
    return None
