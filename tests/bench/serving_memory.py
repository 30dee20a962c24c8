"""Large requests to the embedded server: seconds, and memory above that of the idle server at the peak and after.

Run: python -m tests.bench.serving_memory [GB]

A server that takes more than the given memory, by default 8 GB, is killed.
"""

import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.versions.contract import INPUT
from tests.bench.serving_setup import MODEL, export_network, print_table

_INT16 = 5  # DataType.DT_INT16
SHAPES = [(1, 1, 1_000_000), (1, 1, 4_000_000), (1, 4096, 4096), (32, 512, 512), (140, 512, 512), (2_000, 128, 128)]
REST_WIDTH = 32_000_000  # 61 MB of JSON


def gigabytes(pid: int, field: str) -> float:
    return int(re.search(rf"{field}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1e6


@contextmanager
def serve(base: Path) -> Iterator[tuple[subprocess.Popen, str, str]]:
    """Run a server; yield its process and its gRPC and REST addresses."""
    command = [sys.executable, "-m", "serving.server", "--model-base", str(base), "--model", MODEL]
    ports = ["--port", "0", "--rest-port", "0"]
    with subprocess.Popen([*command, *ports], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        yield server, *(server.stdout.readline().split()[-1] for _ in ports[::2])
        server.kill()


def predict(address: str, shape: tuple[int, ...]) -> str:
    """Send one value with the dimensions of `shape`; return the status."""
    request = predict_pb2.PredictRequest(model_spec={"name": MODEL})
    dims = [{"size": size} for size in shape]
    request.inputs[INPUT].CopyFrom(TensorProto(dtype=_INT16, tensor_shape={"dim": dims}, int_val=[7]))
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(address, options=options) as channel:
        try:
            prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=300)
            return "OK"
        except grpc.RpcError as error:
            return str(error.code().name)


def predict_rest(address: str) -> str:
    """Send one row of `REST_WIDTH` values; return the status."""
    body = b'{"instances": [[[' + b",".join([b"7"] * REST_WIDTH) + b"]]]}"
    try:
        with urllib.request.urlopen(f"http://{address}/v1/models/{MODEL}:predict", body, timeout=300) as reply:
            reply.read()
            return str(reply.status)
    except urllib.error.HTTPError as error:
        return str(error.code)
    except OSError as error:
        return type(error).__name__


def measure(base: Path, send: Callable[[str, str], str], limit_gb: float) -> tuple[str, ...]:
    """Return the status of one request to a new server, its seconds, and the gigabytes at the peak and after."""
    with serve(base) as (server, address, rest_address):
        predict(address, (1, 512, 512))
        idle, done = gigabytes(server.pid, "VmRSS"), threading.Event()

        def enforce_limit() -> None:
            while not done.wait(0.05):
                if gigabytes(server.pid, "VmRSS") > limit_gb:
                    server.kill()
                    return

        threading.Thread(target=enforce_limit).start()
        Path(f"/proc/{server.pid}/clear_refs").write_text("5")  # resets the peak
        started = time.perf_counter()
        status = send(address, rest_address)
        seconds = f"{time.perf_counter() - started:.1f}"
        done.set()
        time.sleep(2)
        if server.poll() is not None:
            return f"killed at {limit_gb:g} GB", seconds, f"> {limit_gb - idle:.1f}", ""
        peak, after = (gigabytes(server.pid, field) - idle for field in ("VmHWM", "VmRSS"))
        return status, seconds, f"{peak:.2f}", f"{after:.2f}"


def main(limit_gb: float = 8.0) -> None:
    rows = [("one value as int16, serving_default", "status", "seconds", "peak GB", "after GB")]
    with tempfile.TemporaryDirectory() as scratch:
        export_network(Path(scratch))
        for shape in SHAPES:
            name = "×".join(map(str, shape))
            rows.append((name, *measure(Path(scratch), lambda address, _, s=shape: predict(address, s), limit_gb)))
        rest = measure(Path(scratch), lambda _, rest_address: predict_rest(rest_address), limit_gb)
        rows.append((f"REST, 1×1×{REST_WIDTH}", *rest))
    print_table("large requests, memory above the idle server", rows)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2]))
