"""The embedded server as a child process."""

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.runtime.child_process import start_child
from components.runtime.errors import InputError

_START_TIMEOUT_S = 300.0
_STOP_TIMEOUT_S = 30


@contextmanager
def server_process(model_base: Path, model_name: str, start_timeout_s: float = _START_TIMEOUT_S) -> Iterator[str]:
    """Serve a model base from a child process on a free port; yield `host:port` of its gRPC endpoint.

    Raises:
        InputError: The server does not start in time; the message ends with its last line on stderr.
    """
    command = [sys.executable, "-m", "serving.server", "--model-base", str(model_base), "--model", model_name]
    # A file, not a pipe: a full pipe would block the server, because its log is read only after it fails.
    with (
        tempfile.TemporaryFile("w+") as log,
        start_child([*command, "--port", "0"], stdout=subprocess.PIPE, stderr=log) as server,
    ):
        deadline = time.monotonic() + start_timeout_s
        killer = threading.Timer(start_timeout_s, server.kill)  # ends its output, and with it the wait for a line
        killer.daemon = True
        try:
            assert server.stdout is not None
            killer.start()
            ready = next((line for line in server.stdout if line.startswith("serving ")), None)
            killer.cancel()
            if ready is None:
                server.wait()
                if time.monotonic() >= deadline:
                    raise InputError(f"{model_name}: the server did not start within {start_timeout_s:g} s")
                log.seek(0)
                reason = log.read().strip().rpartition("\n")[2].removeprefix("error: ")
                raise InputError(f"{model_name}: the server did not start: {reason}")
            yield ready.split()[-1]
        finally:
            killer.cancel()
            server.terminate()
            try:
                server.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                server.kill()
