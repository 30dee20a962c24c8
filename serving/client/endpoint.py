"""gRPC calls to a TF Serving endpoint, with deadlines and bounded retries."""

import re
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import grpc

from components.runtime.errors import InputError
from serving.client.tls_diagnosis import diagnose
from serving.tls import ClientTls

# A repeated Predict changes nothing on the server, so requests that fail with these are safe to send again.
# A server that stops cancels calls that arrive at that moment.
_SAFE_TO_RETRY = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
_FIRST_WAIT_S, _MAX_WAIT_S = 0.2, 2.0
_FIRST_CONTACT_S = 5.0  # for a server that has not answered yet: its address may be wrong
_CLOSE_S = 10.0  # for the last events of canceled calls, which take milliseconds

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
_HANDSHAKE = re.compile("handshake|certificate|ssl|verification", re.IGNORECASE)
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


class Endpoint(AbstractContextManager["Endpoint"]):
    """One gRPC channel to `host:port`; `timeout_s` limits one request, all attempts together. Use it in a `with` block.

    With `tls`, the channel never falls back to plaintext. `server_name` is the name in the server's certificate, if it
    is not the host of `target`. With `proxy`, the channel uses the proxy of the environment, such as `https_proxy`.
    """

    def __init__(
        self, target: str, timeout_s: float, tls: ClientTls | None = None, server_name: str = "", proxy: bool = False
    ) -> None:
        self.target = target
        self.timeout_s = timeout_s
        self.tls = tls
        self.has_answered = False  # to the latest request: it is worth waiting for
        options = [*_CHANNEL_OPTIONS, ("grpc.enable_http_proxy", int(proxy))]
        if tls is None:
            channel = grpc.insecure_channel(target, options=options)
        else:
            name = [("grpc.ssl_target_name_override", server_name)] if server_name else []
            channel = grpc.secure_channel(target, tls.credentials(), options=options + name)
        self._channel, self._unfinished = channel, _Unfinished()
        # Ctrl-C interrupts the main thread. In the middle of a call's start, `channel.close` would never return.
        self._sender = ThreadPoolExecutor(1)
        # Runs once: in `close`, at garbage collection, or when the process exits.
        self._close = weakref.finalize(self, _close, self._sender, channel, self._unfinished)

    def __exit__(self, *_: object) -> None:
        """Close the channel."""
        self.close()

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called, which cancels pending requests."""
        return not self._close.alive

    def close(self) -> None:
        """Cancel pending requests, wait for their end, and close the channel."""
        self._close()

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

        def send(request: Any, timeout_s: float) -> grpc.Future:
            return self._sender.submit(lambda: self._unfinished.add(stub.future(request, timeout=timeout_s))).result()

        pending: deque[_Call] = deque()
        try:
            for request in requests:
                pending.append(_Call(self, send, request))
                if len(pending) >= in_flight:
                    yield pending.popleft().reply()
            while pending:
                yield pending.popleft().reply()
        finally:
            for call in pending:
                call.cancel()


class _Unfinished:
    """Counts the calls whose last event gRPC's thread has not handled.

    That thread is a daemon: if the interpreter exits while it handles an event, it keeps the lock of the call, and the
    main thread waits for it forever in `_MultiThreadedRendezvous.__del__` (grpc/_channel.py).
    """

    def __init__(self) -> None:
        self._count, self._changed = 0, threading.Condition()

    def add(self, future: Any) -> Any:
        with self._changed:
            self._count += 1
        future.add_done_callback(self._remove)  # called after the last event, without the lock of the call
        return future

    def _remove(self, _: object) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def wait(self, timeout_s: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._count, timeout_s)


def _close(sender: ThreadPoolExecutor, channel: grpc.Channel, unfinished: _Unfinished) -> None:
    sender.shutdown(wait=False)
    channel.close()  # cancels all calls
    unfinished.wait(_CLOSE_S)


class _Call:
    """One request in flight, with retries."""

    def __init__(self, endpoint: Endpoint, send: Callable[[Any, float], Any], request: Any) -> None:
        self._endpoint, self._send, self._request = endpoint, send, request
        self._start = time.monotonic()
        self._future = self._attempt()

    def reply(self) -> Any:
        """Wait for the reply, retrying while that is safe and time is left."""
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                reply = self._future.result()
            except grpc.RpcError as error:
                is_final = self._endpoint.is_closed or error.code() not in _SAFE_TO_RETRY
                if is_final or self._seconds_left(error.code()) <= wait_s:
                    raise self._serving_error(error) from error
            else:
                self._endpoint.has_answered = True
                return reply
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, _MAX_WAIT_S)
            self._future = self._attempt()

    def cancel(self) -> None:
        self._future.cancel()

    def _attempt(self) -> Any:
        # Half of the remaining time: an attempt whose connection hangs leaves time for another.
        return self._send(self._request, max(self._seconds_left() / 2, 0.01))

    def _seconds_left(self, code: Any = None) -> float:
        limit_s = self._endpoint.timeout_s
        if code == grpc.StatusCode.UNAVAILABLE and not self._endpoint.has_answered:
            limit_s = min(limit_s, _FIRST_CONTACT_S)
        return self._start + limit_s - time.monotonic()

    def _serving_error(self, error: Any) -> ServingError:
        endpoint, code = self._endpoint, error.code()
        reason = " ".join((error.details() or "no reason given").split()).rstrip(".")
        advice = _TLS_ADVICE if _HANDSHAKE.search(reason) else _ADVICE.get(code, "")
        if code == grpc.StatusCode.UNAVAILABLE:
            advice = diagnose(endpoint.target, endpoint.tls) or advice
            endpoint.has_answered = False
        message = f"{endpoint.target} answered {code.name}: {reason}"
        return ServingError(f"{message}; {advice}" if advice else message, code.name)
