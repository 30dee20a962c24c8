"""Errors that the server returns to clients: a gRPC status and, where TF Serving has one, its own message."""

import logging
import re
import traceback
from functools import partial

import grpc
import tensorflow as tf

from components.runtime.errors import InputError
from serving.versions.saved_model import SignatureError

_log = logging.getLogger(__name__)
# What TensorFlow adds to the text of an operation's error.
_GRAPH_LOCATION = re.compile(r"Graph execution error:.*<stack traces unavailable>|\[\[\{\{.*", re.DOTALL)
_MAX_TEXT_BYTES = 1024  # tensorflow/serving, model_servers/grpc_status_util.cc
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


def to_request_error(error: Exception) -> RequestError:
    """Translate the failure of a request. Clients do not get the text of an unexpected one; it becomes a log line."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, SignatureError):
        return failed_precondition(str(error))
    if isinstance(error, tf.errors.OpError):
        text = _GRAPH_LOCATION.sub(" ", error.message)
        return RequestError(_STATUS_BY_NUMBER[error.error_code], " ".join(text.split()))
    if isinstance(error, MemoryError):
        return resource_exhausted("not enough memory for this request; send fewer slices")
    if isinstance(error, NotImplementedError):
        return RequestError(grpc.StatusCode.UNIMPLEMENTED, "the embedded server does not implement this method")
    frame = traceback.extract_tb(error.__traceback__)[-1]
    _log.error("internal error in %s:%s: %s", frame.filename, frame.lineno, in_one_line(error))
    return RequestError(grpc.StatusCode.INTERNAL, "internal error; the log of the server has the cause")


def error_text(error: RequestError) -> str:
    """Return the text of an error for its client: of limited size, and without what UTF-8 cannot express."""
    data = str(error).encode(errors="replace")
    suffix = "...TRUNCATED" if len(data) > _MAX_TEXT_BYTES else ""
    return data[:_MAX_TEXT_BYTES].decode(errors="ignore") + suffix


def load_error_code(error: Exception) -> int:
    """Return the status number of a version that could not be loaded."""
    if isinstance(error, RequestError | SignatureError | tf.errors.OpError):
        return int(to_request_error(error).code.value[0])
    # Damaged files: tensorflow/core/platform/env.cc, ReadBinaryProto.
    damaged = isinstance(error, InputError | OSError)
    return int((grpc.StatusCode.DATA_LOSS if damaged else grpc.StatusCode.INTERNAL).value[0])


def in_one_line(error: Exception) -> str:
    """Return the type and the text of an exception without line breaks."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:1024]
