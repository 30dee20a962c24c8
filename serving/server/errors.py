"""How the embedded server says no: a gRPC status and TF Serving's own words."""

from typing import Any

import grpc

_STATUS_BY_NUMBER = {status.value[0]: status for status in grpc.StatusCode}


class RequestError(Exception):
    """A request that is answered with an error status.

    Attributes:
        code: the gRPC status.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def invalid(message: str) -> RequestError:
    """Refuse a request that contradicts the model's signature."""
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> RequestError:
    """Refuse a request for something that is not loaded."""
    return RequestError(grpc.StatusCode.NOT_FOUND, message)


def not_ready(message: str) -> RequestError:
    """Refuse a change whose ground is missing, such as a label for a version that is not loaded."""
    return RequestError(grpc.StatusCode.FAILED_PRECONDITION, message)


def full(message: str) -> RequestError:
    """Refuse a request because too many are waiting."""
    return RequestError(grpc.StatusCode.RESOURCE_EXHAUSTED, message)


def from_tensorflow(error: Any) -> RequestError:
    """Translate a `tf.errors.OpError`; TensorFlow's error numbers are gRPC's."""
    return RequestError(_STATUS_BY_NUMBER[error.error_code], error.message)
