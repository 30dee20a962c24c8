"""Errors that the server returns to clients: a gRPC status and, where TF Serving has one, its own message."""

from functools import partial
from typing import Any

import grpc

_STATUS_BY_NUMBER = {status.value[0]: status for status in grpc.StatusCode}


class RequestError(Exception):
    """A failed request; `code` is the gRPC status of the response."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


invalid_argument = partial(RequestError, grpc.StatusCode.INVALID_ARGUMENT)
not_found = partial(RequestError, grpc.StatusCode.NOT_FOUND)
failed_precondition = partial(RequestError, grpc.StatusCode.FAILED_PRECONDITION)
resource_exhausted = partial(RequestError, grpc.StatusCode.RESOURCE_EXHAUSTED)


def from_tensorflow(error: Any) -> RequestError:
    """Translate a `tf.errors.OpError`; TensorFlow's error numbers are gRPC's."""
    return RequestError(_STATUS_BY_NUMBER[error.error_code], error.message)
