"""gRPC calls to a TF Serving endpoint, with deadlines and bounded retries."""

import re
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import grpc

from components.runtime.errors import InputError
from serving.tls import ClientTls

# A repeated Predict changes nothing on the server, so requests that fail with these are safe to send again.
_SAFE_TO_RETRY = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
_ATTEMPTS = 5
_FIRST_WAIT_S = 0.2

_CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),  # the default rejects replies over 4 MiB
    ("grpc.initial_reconnect_backoff_ms", 100),  # the default repeats the old failure for a second
    ("grpc.max_reconnect_backoff_ms", 1000),
]

_ADVICE = {
    grpc.StatusCode.UNAVAILABLE: "is the server running there? check the address, or start one with `lung-ct serve`",
    grpc.StatusCode.DEADLINE_EXCEEDED: "the server is slow or hangs; check its load, or allow more time",
    grpc.StatusCode.NOT_FOUND: "check the model's name and version against what the server serves",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "the server is busy; try again later",
}
_HANDSHAKE = re.compile("handshake|certificate|ssl", re.IGNORECASE)
_TLS_ADVICE = "the TLS connection failed, and the client does not fall back to plaintext; check the CA and certificates"


class ServingError(InputError):
    """A failed request, or a reply that does not fit the model's metadata.

    Attributes:
        code: name of the gRPC status, such as `NOT_FOUND`.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class Method(NamedTuple):
    """A gRPC method: its path and the message classes of its request and reply."""

    path: str
    request: Any
    reply: Any


class Endpoint:
    """One gRPC channel to `host:port`; `timeout_s` limits one request, all attempts together.

    With `tls`, the channel never falls back to plaintext. `server_name` is the name in the server's certificate, if it
    is not the host of `target`.
    """

    def __init__(self, target: str, timeout_s: float, tls: ClientTls | None = None, server_name: str = "") -> None:
        self.target = target
        self.timeout_s = timeout_s
        if tls is None:
            self._channel = grpc.insecure_channel(target, options=_CHANNEL_OPTIONS)
        else:
            name = [("grpc.ssl_target_name_override", server_name)] if server_name else []
            self._channel = grpc.secure_channel(target, tls.credentials(), options=_CHANNEL_OPTIONS + name)

    def close(self) -> None:
        """Cancel pending requests and close the channel."""
        self._channel.close()

    def call(self, method: Method, request: Any) -> Any:
        """Send one request and wait for its reply."""
        return next(self.calls(method, [request], in_flight=1))

    def calls(self, method: Method, requests: Iterable[Any], in_flight: int) -> Iterator[Any]:
        """Send requests, up to `in_flight` at once, and yield the replies in order; `ServingError` if one fails."""
        stub = self._channel.unary_unary(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.reply.FromString,
        )
        pending: deque[_Call] = deque()
        try:
            for request in requests:
                pending.append(_Call(self, stub, request))
                if len(pending) >= in_flight:
                    yield pending.popleft().reply()
            while pending:
                yield pending.popleft().reply()
        finally:
            for call in pending:
                call.cancel()


class _Call:
    """One request in flight, with retries."""

    def __init__(self, endpoint: Endpoint, stub: Any, request: Any) -> None:
        self._target, self._stub, self._request = endpoint.target, stub, request
        self._deadline = time.monotonic() + endpoint.timeout_s
        self._future = self._send()

    def reply(self) -> Any:
        """Wait for the reply, retrying while that is safe and time is left."""
        wait_s = _FIRST_WAIT_S
        for attempts_left in reversed(range(_ATTEMPTS)):
            try:
                return self._future.result()
            except grpc.RpcError as error:
                out_of_time = self._seconds_left() <= wait_s
                if error.code() not in _SAFE_TO_RETRY or not attempts_left or out_of_time:
                    raise self._serving_error(error) from error
            time.sleep(wait_s)
            wait_s *= 2
            self._future = self._send()
        raise AssertionError("the last attempt returns or raises")

    def cancel(self) -> None:
        self._future.cancel()

    def _send(self) -> Any:
        # Half of the remaining time: an attempt whose connection hangs leaves time for another.
        return self._stub.future(self._request, timeout=max(self._seconds_left() / 2, 0.01))

    def _seconds_left(self) -> float:
        return self._deadline - time.monotonic()

    def _serving_error(self, error: Any) -> ServingError:
        code = error.code()
        reason = " ".join((error.details() or "no reason given").split()).rstrip(".")
        advice = _TLS_ADVICE if _HANDSHAKE.search(reason) else _ADVICE.get(code, "")
        message = f"{self._target} answered {code.name}: {reason}"
        return ServingError(f"{message}; {advice}" if advice else message, code.name)
