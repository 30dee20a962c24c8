"""One 512×512×300 volume, file to mask file: through gRPC against the SavedModel called in this process.

Run: python -m tests.bench.serving_volume [rounds] [slices]

Both do the same reading, fitting, inverting and writing. Rounds take turns, and the medians are compared.
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
from components.predict.version_model import VersionModel
from serving.client.scan_files import OutputFiles, segment_scan
from serving.client.segmentation import SegmentationClient
from tests.bench.serving_setup import MODEL, SHAPE, SIZE, export_idle, export_network, print_table, server, write_scan


def timed(function: Callable[[], object]) -> tuple[float, object]:
    """Seconds, and what came out."""
    started = time.perf_counter()
    result = function()
    return time.perf_counter() - started, result


def counting_proxy(target: str) -> tuple[str, list[int]]:
    """A TCP relay to `target`; its address, and the bytes that went up and down so far."""
    listener = socket.create_server(("127.0.0.1", 0))
    counts = [0, 0]
    host, _, port = target.rpartition(":")

    def relay(source: socket.socket, sink: socket.socket, way: int) -> None:
        with contextlib.suppress(OSError):  # either end hangs up
            while data := source.recv(1 << 16):
                counts[way] += len(data)
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
        export_network(folder / "base")
        scan, mask = folder / "scan.nii.gz", OutputFiles(folder / "mask.nii.gz")
        shape = (*SHAPE[:2], slices)
        write_scan(scan, shape)
        with server(folder / "base") as address, SegmentationClient(address, MODEL) as client:
            model = VersionModel(str(folder / "base"))
            model.predict(read_ct(scan)[0])  # TensorFlow's first call plans its kernels
            served, direct = [], []
            for _ in range(rounds):
                direct.append(timed(lambda: segment_scan(model.predict, scan, mask))[0])
                served.append(timed(lambda: segment_scan(client.predict, scan, mask))[0])
            whole, apart = statistics.median(served), statistics.median(direct)
            export_idle(folder / "idle")
            with server(folder / "idle") as idle_address, SegmentationClient(idle_address, MODEL) as idle:
                parts = measure_parts(scan, mask.mask, model, idle)
            relayed, counts = counting_proxy(address)
            with SegmentationClient(relayed, MODEL) as counted:
                counted.predict(read_ct(scan)[0])
    name = "×".join(map(str, shape))
    rows = [("", "seconds", "ratio", "wanted")]
    rows += [
        ("in-process SavedModel", f"{apart:.2f}", "1.00", ""),
        ("through gRPC", f"{whole:.2f}", f"{whole / apart:.2f}", "≤ 1.4"),
    ]
    print_table(f"{name}, file to mask file (median of {rounds})", rows)
    print_table(
        "its parts, each alone", [("", "seconds"), *((name, f"{seconds:.2f}") for name, seconds in parts.items())]
    )
    as_float32 = 4 * shape[0] * shape[1] * slices
    up, down = counts
    print_table(
        "bytes on the wire, counted by a relay",
        [
            ("", "MB", "share of float32 slices", "wanted"),
            ("float32 512² slices, one way", f"{as_float32 / 1e6:.1f}", "1", ""),
            ("`network`, up", f"{up / 1e6:.1f}", f"1/{as_float32 / up:.0f}", "≤ 1/10"),
            ("`network`, up and down", f"{(up + down) / 1e6:.1f}", f"1/{as_float32 / (up + down):.1f}", "≤ 1/10"),
        ],
    )


def measure_parts(scan: Path, mask: Path, model: VersionModel, idle: SegmentationClient) -> dict[str, float]:
    """Seconds of each part of the way, one after the other without overlap."""
    parts = {}
    parts["read"], (volume, _) = timed(lambda: read_ct(scan))
    slices = axial_slices(volume.voxels)
    parts["fit"], grids = timed(lambda: fit_hu(slices, SIZE))
    batches = [grids[start : start + 32] for start in range(0, len(grids), 32)]
    parts["network, in-process"], answers = timed(lambda: [model._answer(b)["lesion_probability"] for b in batches])
    # On the grid already, and to a network that does nothing: what is left beside the two copies is the wire.
    seconds, _ = timed(lambda: idle.predict_slices(grids))
    identity = GridFit(height=SIZE, width=SIZE, size=SIZE)
    copying, _ = timed(lambda: (fit_hu(grids, SIZE), identity.invert(np.concatenate(answers))))
    parts["wire, there and back"] = seconds - copying
    fit = GridFit.for_slices(slices, SIZE)
    parts["inverse"], probability = timed(lambda: fit.invert(np.concatenate(answers)))
    found = (probability >= 0.5).astype(np.uint8).transpose(2, 1, 0)[::-1, ::-1]
    parts["write"], _ = timed(lambda: write_on_file_grid(mask, found, volume.file_grid))
    return parts


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
