"""Requests to Cloud Storage: their timeouts and retries, and their errors in one line."""

import logging
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.cloud.storage.exceptions import InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY

from components.runtime.errors import InputError
from components.storage.refusal import REFUSAL_TIMEOUT_S, refusal_reason

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10, 60
_STREAK_S = 30  # between two refusals of one streak: more than the wait before a retry
CREDENTIALS = (
    "check the name, and that the credentials may use it (`gcloud auth application-default login`, "
    "GOOGLE_APPLICATION_CREDENTIALS, or the pod's workload identity)"
)
_log = logging.getLogger(__name__)


def retry_options(deadline_s: float) -> dict[str, Any]:
    """Return the timeouts and retries of the requests of one operation, as the client library's methods take them."""
    retry = DEFAULT_RETRY.with_timeout(deadline_s).with_predicate(_Patience(deadline_s))
    return {"timeout": (CONNECT_TIMEOUT_S, READ_TIMEOUT_S), "retry": retry}


class _Patience:
    """Decide whether to retry after an error, and log the first one; for all requests of one operation.

    A server that refuses connections is given up after `REFUSAL_TIMEOUT_S`.
    """

    def __init__(self, deadline_s: float):
        self._deadline_s = deadline_s
        self._refused_s = (-math.inf, -math.inf)  # the first and the last refusal of a streak
        self._first = threading.Lock()  # never released: requests run in parallel

    def __call__(self, error: Exception) -> bool:
        if not DEFAULT_RETRY._predicate(error):  # has no public name
            return False
        limit_s, now_s = self._deadline_s, time.monotonic()
        if refusal_reason(error):
            limit_s = min(limit_s, REFUSAL_TIMEOUT_S)
            first_s, last_s = self._refused_s
            self._refused_s = (first_s if now_s - last_s < _STREAK_S else now_s, now_s)
            if now_s - self._refused_s[0] > limit_s:
                return False
        if self._first.acquire(blocking=False):
            _log.info("%s; trying again for up to %.0f s", _describe_failure(error), limit_s)
        return True


def _describe_failure(error: Exception) -> str:
    """Describe an error without the names of objects, which its own text holds."""
    cause = error.cause if isinstance(error, api.RetryError) and error.cause else error
    if isinstance(cause, InvalidResponse):
        return f"the server answered {cause.response.status_code}"
    if isinstance(cause, api.GoogleAPICallError) and cause.code:
        return f"the server answered {cause.code:d}"
    return refusal_reason(error) or f"no answer ({type(cause).__name__})"


@contextmanager
def translate_api_errors(uri: str) -> Iterator[None]:
    """Turn errors of the client library into an `InputError` that names the object."""
    try:
        yield
    except (api.NotFound, api.Forbidden, api.Unauthorized) as error:
        reason = {404: "not found", 403: "not permitted", 401: "not permitted"}[error.code]
        raise InputError(f"{uri}: {reason} ({error.code:d}); {CREDENTIALS}") from error
    except auth.DefaultCredentialsError as error:
        raise InputError(f"{uri}: no usable Google credentials; {CREDENTIALS}") from error
    except (api.GoogleAPICallError, api.RetryError, auth.GoogleAuthError, OSError) as error:
        if isinstance(error, OSError) and not isinstance(error, requests.RequestException | ConnectionError):
            raise  # a fault of the local disk
        remedy = "check that it runs, and STORAGE_EMULATOR_HOST" if refusal_reason(error) else "try again later"
        raise InputError(f"{uri}: gave up: {_describe_failure(error)}; {remedy}") from error
