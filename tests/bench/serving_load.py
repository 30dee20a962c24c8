"""The server under load, in batches of 32: throughput relative to in-process calls, latency, 32 clients at once.

Run: python -m tests.bench.serving_load [seconds]

"80 % load" sends requests at a fixed rate, 0.8 of the throughput measured just before, without waiting for earlier
responses; latency counts from the planned time of a request.
"""

import multiprocessing
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from serving.client import messages
from serving.client.endpoint import Endpoint, ServingError
from serving.client.messages import to_tensor
from serving.client.segmentation import PREDICT
from serving.server.process import server_process
from serving.versions.contract import GRID_SIGNATURE, INPUT, PROBABILITY
from tests.bench.serving_setup import MODEL, SIZE, export_network, print_table

BATCH = 32
SLICES = np.random.default_rng(0).integers(-1000, 300, (BATCH, SIZE, SIZE)).astype(np.int16)


def request():
    message = messages.PredictRequest(
        model_spec={"name": MODEL, "signature_name": GRID_SIGNATURE}, output_filter=[PROBABILITY]
    )
    message.inputs.add(key=INPUT, value=to_tensor(SLICES))
    return message


def in_process(model: Any, seconds: float) -> float:
    """Return batches per second."""
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        model.lesion_probability(SLICES)
        done += 1
    return done / (time.perf_counter() - started)


def closed_loop(address: str, seconds: float, in_flight: int) -> float:
    """Return batches per second with `in_flight` concurrent requests."""
    endpoint = Endpoint(address, 60.0)
    message, ends = request(), 0.0

    def repeat_until_end():
        while time.perf_counter() < ends:
            yield message

    ends = time.perf_counter() + seconds
    started = time.perf_counter()
    done = sum(1 for _ in endpoint.calls(PREDICT, repeat_until_end(), in_flight))
    endpoint.close()
    return done / (time.perf_counter() - started)


def open_loop(address: str, seconds: float, rate: float) -> np.ndarray:
    """Return the latencies in seconds of requests sent at a fixed rate per second."""
    endpoint, message, latencies = Endpoint(address, 60.0), request(), []

    def send(planned: float) -> None:
        endpoint.call(PREDICT, message)
        latencies.append(time.perf_counter() - planned)

    started = time.perf_counter()
    with ThreadPoolExecutor(64) as pool:
        for number in range(int(seconds * rate)):
            planned = started + number / rate
            time.sleep(max(0.0, planned - time.perf_counter()))
            pool.submit(send, planned)
    endpoint.close()
    return np.array(latencies)


def run_client(address: str, requests: int, results) -> None:
    """Send requests in a client process; put the numbers of responses and errors into `results`."""
    endpoint, answered, failed = Endpoint(address, 120.0), 0, 0
    for _ in range(requests):
        try:
            endpoint.call(PREDICT, request())
            answered += 1
        except ServingError:
            failed += 1
    endpoint.close()
    results.put((answered, failed))


def many_clients(address: str, clients: int, requests: int) -> tuple[int, int]:
    """Return the numbers of responses and errors of concurrent client processes."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=run_client, args=(address, requests, results)) for _ in range(clients)]
    for process in processes:
        process.start()
    counts = [results.get(timeout=300) for _ in processes]
    for process in processes:
        process.join()
    return sum(a for a, _ in counts), sum(r for _, r in counts)


def main(seconds: float = 8.0, rounds: int = 4) -> None:
    from serving.versions.saved_model import SavedModel  # imports TensorFlow, which the client processes do not need

    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        model = SavedModel(export_network(base))
        with server_process(base, MODEL) as address:
            in_process(model, 2), closed_loop(address, 2, 3)  # warm up
            direct, served, latencies = [], [], []
            for _ in range(rounds):  # interleaved: other load on the machine affects all
                direct.append(in_process(model, seconds / 2))
                served.append(closed_loop(address, seconds / 2, 3))
                latencies.append(np.percentile(open_loop(address, 2 * seconds, 0.8 * served[-1]), [50, 99]))
            answered, failed = many_clients(address, 32, 6)
    ratio = np.median(served) / np.median(direct)
    rows = [("", "slices/s", "ratio", "target")]
    rows.append(("in-process SavedModel", f"{BATCH * np.median(direct):.0f}", "1.00", ""))
    rows.append(("server", f"{BATCH * np.median(served):.0f}", f"{ratio:.2f}", "≥ 0.9"))
    print_table(f"throughput, batches of 32 (medians of {rounds})", rows)
    rows = [("round", "requests/s", "p50 ms", "p99 ms", "p99/p50", "target")]
    for number, (rate, (p50, p99)) in enumerate(zip(served, latencies, strict=True), start=1):
        rows.append(
            (str(number), f"{0.8 * rate:.1f}", f"{1e3 * p50:.0f}", f"{1e3 * p99:.0f}", f"{p99 / p50:.1f}", "≤ 3")
        )
    print_table("latency at 80 % of the throughput just measured", rows)
    rows = [("sent", "answered", "failed", "lost", "target")]
    rows.append((str(32 * 6), str(answered), str(failed), str(32 * 6 - answered - failed), "all answered"))
    print_table("32 clients at once", rows)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2]))
