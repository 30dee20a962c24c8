"""One 512×512×300 volume, file to mask file: over gRPC, relative to the SavedModel in this process.

Run: python -m tests.bench.serving_volume [rounds] [slices]

Both read, fit, invert and write alike. Rounds are interleaved; medians are compared.
"""

import contextlib
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from components.ct.grid import GridFit, axial_slices, fit_hu
from components.ct.intensity import read_ct
from components.ct.volume import write_on_file_grid
from components.predict.batch import load_version
from serving.client.scans import OutputFiles, ScanTask, segment_scan
from serving.client.segmentation import SegmentationClient
from serving.server.process import server_process
from serving.versions.saved_model import SavedModel
from tests.bench.serving_setup import MODEL, SHAPE, SIZE, export_idle, export_network, print_table, write_scan


def timed(function: Callable[[], object]) -> tuple[float, object]:
    """Return the duration in seconds and the result."""
    started = time.perf_counter()
    result = function()
    return time.perf_counter() - started, result


def counting_proxy(target: str) -> tuple[str, list[int]]:
    """Start a TCP relay to `target`; return its address and a list of the bytes sent up and down so far."""
    listener = socket.create_server(("127.0.0.1", 0))
    counts = [0, 0]
    host, _, port = target.rpartition(":")

    def relay(source: socket.socket, sink: socket.socket, direction: int) -> None:
        with contextlib.suppress(OSError):  # one side closes the connection
            while data := source.recv(1 << 16):
                counts[direction] += len(data)
                sink.sendall(data)

    def accept() -> None:
        while True:
            near, _ = listener.accept()
            far = socket.create_connection((host, int(port)))
            threading.Thread(target=relay, args=(near, far, 0), daemon=True).start()
            threading.Thread(target=relay, args=(far, near, 1), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return f"127.0.0.1:{listener.getsockname()[1]}", counts


def main(rounds: int = 3, slices: int = SHAPE[2]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        network = SavedModel(export_network(folder / "base"))
        scan = folder / "scan.nii.gz"
        task = ScanTask("scan", scan, OutputFiles(folder / "mask.nii.gz"))
        shape = (*SHAPE[:2], slices)
        write_scan(scan, shape)
        with (
            server_process(folder / "base", MODEL) as address,
            SegmentationClient(address, MODEL) as client,
            load_version(str(folder / "base")) as predict,
        ):
            predict(read_ct(scan)[0])  # TensorFlow's first call selects kernels
            served, direct = [], []
            for _ in range(rounds):
                direct.append(timed(lambda: segment_scan(predict, task))[0])
                served.append(timed(lambda: segment_scan(client.predict, task))[0])
            served_s, direct_s = statistics.median(served), statistics.median(direct)
            export_idle(folder / "idle")
            with server_process(folder / "idle", MODEL) as idle_server, SegmentationClient(idle_server, MODEL) as idle:
                steps = measure_steps(scan, task.outputs.mask, network, idle)
            relayed, counts = counting_proxy(address)
            with SegmentationClient(relayed, MODEL) as counted:
                counted.predict(read_ct(scan)[0])
    name = "×".join(map(str, shape))
    rows = [("", "seconds", "ratio", "target")]
    rows += [
        ("in-process SavedModel", f"{direct_s:.2f}", "1.00", ""),
        ("over gRPC", f"{served_s:.2f}", f"{served_s / direct_s:.2f}", "≤ 1.4"),
    ]
    print_table(f"{name}, file to mask file (median of {rounds})", rows)
    rows = [("", "seconds"), *((step, f"{seconds:.2f}") for step, seconds in steps.items())]
    print_table("its steps, measured separately", rows)
    as_float32 = 4 * shape[0] * shape[1] * slices
    up, down = counts
    print_table(
        "bytes on the wire",
        [
            ("", "MB", "share of float32 slices", "target"),
            ("float32 512² slices, one way", f"{as_float32 / 1e6:.1f}", "1", ""),
            ("`network`, up", f"{up / 1e6:.1f}", f"1/{as_float32 / up:.0f}", "≤ 1/10"),
            ("`network`, up and down", f"{(up + down) / 1e6:.1f}", f"1/{as_float32 / (up + down):.1f}", "≤ 1/10"),
        ],
    )


def measure_steps(scan: Path, mask: Path, network: SavedModel, idle: SegmentationClient) -> dict[str, float]:
    """Return the seconds of each step, measured one after the other."""
    steps = {}
    steps["read"], (volume, _) = timed(lambda: read_ct(scan))
    slices = axial_slices(volume.voxels)
    steps["fit"], grids = timed(lambda: fit_hu(slices, SIZE))
    batches = [grids[start : start + 32] for start in range(0, len(grids), 32)]
    steps["network, in-process"], outputs = timed(lambda: [network.lesion_probability(batch) for batch in batches])
    # Slices on the grid and a network without computation: the rest, less the copies, is transport.
    seconds, _ = timed(lambda: idle.predict_slices(grids))
    identity = GridFit(height=SIZE, width=SIZE, size=SIZE)
    copying, _ = timed(lambda: (fit_hu(grids, SIZE), identity.invert(np.concatenate(outputs))))
    steps["transport"] = seconds - copying
    fit = GridFit.for_slices(slices, SIZE)
    steps["inverse"], probability = timed(lambda: fit.invert(np.concatenate(outputs)))
    voxels = (probability >= 0.5).astype(np.uint8).transpose(2, 1, 0)[::-1, ::-1]
    steps["write"], _ = timed(lambda: write_on_file_grid(mask, voxels, volume.file_grid))
    return steps


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
