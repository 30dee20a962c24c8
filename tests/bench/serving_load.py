"""The server under load: throughput against in-process calls, delays, and 32 clients at once, by batches of 32.

Run: python -m tests.bench.serving_load [seconds]

Requests are made by processes of their own. "80 % load" sends at a fixed rate, 0.8 of the throughput measured just
before, each request at its planned moment whether or not the ones before are back; a delay counts from that moment.
"""

import multiprocessing
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from components.predict.version_model import VersionModel
from serving.client import messages
from serving.client.endpoint import Endpoint, ServingError
from serving.client.segmentation import PREDICT
from serving.client.messages import to_tensor
from serving.versions.contract import GRID_SIGNATURE, INPUT, PROBABILITY
from tests.bench.serving_setup import MODEL, SIZE, export_network, print_table, server

BATCH = 32
SLICES = np.random.default_rng(0).integers(-1000, 300, (BATCH, SIZE, SIZE)).astype(np.int16)


def request():
    message = messages.PredictRequest(
        model_spec={"name": MODEL, "signature_name": GRID_SIGNATURE}, output_filter=[PROBABILITY]
    )
    message.inputs.add(key=INPUT, value=to_tensor(SLICES))
    return message


def in_process(model: VersionModel, seconds: float) -> float:
    """Batches a second."""
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        model._answer(SLICES)
        done += 1
    return done / (time.perf_counter() - started)


def closed_loop(address: str, seconds: float, in_flight: int) -> float:
    """Batches a second, `in_flight` requests on their way all the time."""
    endpoint = Endpoint(address, 60.0)
    message, ends = request(), 0.0

    def until_the_end():
        while time.perf_counter() < ends:
            yield message

    ends = time.perf_counter() + seconds
    started = time.perf_counter()
    done = sum(1 for _ in endpoint.calls(PREDICT, until_the_end(), in_flight))
    endpoint.close()
    return done / (time.perf_counter() - started)


def open_loop(address: str, seconds: float, a_second: float) -> np.ndarray:
    """Delays in seconds of requests that are sent at a fixed rate."""
    endpoint, message, delays = Endpoint(address, 60.0), request(), []

    def ask(planned: float) -> None:
        endpoint.call(PREDICT, message)
        delays.append(time.perf_counter() - planned)

    started = time.perf_counter()
    with ThreadPoolExecutor(64) as pool:
        for number in range(int(seconds * a_second)):
            planned = started + number / a_second
            time.sleep(max(0.0, planned - time.perf_counter()))
            pool.submit(ask, planned)
    endpoint.close()
    return np.array(delays)


def one_of_many(address: str, requests: int, results) -> None:
    """A client process: how many answers it got, and how many refusals."""
    endpoint, answered, refused = Endpoint(address, 120.0), 0, 0
    for _ in range(requests):
        try:
            endpoint.call(PREDICT, request())
            answered += 1
        except ServingError:
            refused += 1
    results.put((answered, refused))


def many_clients(address: str, clients: int, requests: int) -> tuple[int, int]:
    """Answers and refusals of so many processes at once."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=one_of_many, args=(address, requests, results)) for _ in range(clients)]
    for process in processes:
        process.start()
    counts = [results.get(timeout=300) for _ in processes]
    for process in processes:
        process.join()
    return sum(a for a, _ in counts), sum(r for _, r in counts)


def main(seconds: float = 8.0, rounds: int = 4) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        export_network(base)
        model = VersionModel(str(base))
        with server(base) as address:
            in_process(model, 2), closed_loop(address, 2, 3)  # warm both
            alone, served, delays = [], [], []
            for _ in range(rounds):  # by turns: a disturbance meets all
                alone.append(in_process(model, seconds / 2))
                served.append(closed_loop(address, seconds / 2, 3))
                delays.append(np.percentile(open_loop(address, 2 * seconds, 0.8 * served[-1]), [50, 99]))
            answered, refused = many_clients(address, 32, 6)
    ratio = np.median(served) / np.median(alone)
    rows = [("", "slices/s", "ratio", "wanted")]
    rows.append(("in-process SavedModel", f"{BATCH * np.median(alone):.0f}", "1.00", ""))
    rows.append(("server", f"{BATCH * np.median(served):.0f}", f"{ratio:.2f}", "≥ 0.9"))
    print_table(f"throughput, batches of 32 (medians of {rounds})", rows)
    rows = [("round", "requests/s", "p50 ms", "p99 ms", "p99/p50", "wanted")]
    for number, (rate, (p50, p99)) in enumerate(zip(served, delays, strict=True), start=1):
        rows.append(
            (str(number), f"{0.8 * rate:.1f}", f"{1e3 * p50:.0f}", f"{1e3 * p99:.0f}", f"{p99 / p50:.1f}", "≤ 3")
        )
    print_table("delays at 80 % of the throughput just measured", rows)
    rows = [("sent", "answered", "refused", "lost", "wanted")]
    rows.append((str(32 * 6), str(answered), str(refused), str(32 * 6 - answered - refused), "all answered"))
    print_table("32 clients at once", rows)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2]))
