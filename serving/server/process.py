"""The embedded server as a child process."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.runtime.errors import InputError

_STOP_TIMEOUT_S = 30


@contextmanager
def server_process(model_base: Path, model_name: str) -> Iterator[str]:
    """Serve a model base from a child process on a free port; yield `host:port` of its gRPC endpoint.

    Raises:
        InputError: The server does not start; the message ends with its last line on stderr.
    """
    command = [sys.executable, "-m", "serving.server", "--model-base", str(model_base), "--model", model_name]
    # A file, not a pipe: a full pipe would block the server, because its log is read only after it fails.
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, stderr=log, text=True) as server,
    ):
        try:
            assert server.stdout is not None
            ready = next((line for line in server.stdout if line.startswith("serving ")), None)
            if ready is None:
                server.wait()
                log.seek(0)
                reason = log.read().strip().rpartition("\n")[2].removeprefix("error: ")
                raise InputError(f"{model_name}: the server did not start: {reason}")
            yield ready.split()[-1]
        finally:
            server.terminate()
            try:
                server.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                server.kill()
