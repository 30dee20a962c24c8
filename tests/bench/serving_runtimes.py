"""The exported network in TensorFlow, ONNX Runtime and OpenVINO on this CPU.

Run: uv sync --group bench && python -m tests.bench.serving_runtimes [model.keras [scan.nii.gz]]

All compute probabilities of the same int16 slices, by default of a phantom. Rounds are interleaved;
medians are compared.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.ct.grid import axial_slices, fit_hu
from components.ct.intensity import read_ct
from tests.bench.serving_setup import SIZE, print_table

BATCHES, ROUNDS = (1, 32), 10
Run = Callable[[NDArray[np.int16]], NDArray[np.float32]]


def by_tensorflow(folder: Path) -> Run:
    """Run the SavedModel like the server does."""
    import tensorflow as tf

    from serving.versions.contract import GRID_SIGNATURE, INPUT, PROBABILITY

    loaded = tf.saved_model.load(str(folder))
    return lambda slices: loaded.signatures[GRID_SIGNATURE](**{INPUT: tf.constant(slices)})[PROBABILITY].numpy()


def to_onnx(network: object, path: Path) -> None:
    """Export the network alone: the cost of threshold and mask is negligible."""
    import tensorflow as tf
    import tf2onnx

    signature = [tf.TensorSpec((None, SIZE, SIZE), tf.int16, name="slices_hu")]
    graph = tf.function(lambda slices_hu: network(tf.cast(slices_hu, tf.float32), training=False))
    tf2onnx.convert.from_function(graph, signature, opset=17, output_path=str(path))


def by_onnx_runtime(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda slices: session.run(None, {"slices_hu": slices})[0]


def by_openvino(path: Path, precision: str) -> Run:
    import openvino

    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": precision})
    return lambda slices: compiled([slices])[compiled.output(0)]


def main(weights: str = "", scan: str = "") -> None:
    from components.ct.phantom import write_cohort
    from components.export.signatures import ServedModel
    from components.train.network import build_network, load_model

    network = load_model(Path(weights)) if weights else build_network(SIZE)
    with tempfile.TemporaryDirectory() as scratch:
        folder, onnx = Path(scratch) / "1", Path(scratch) / "network.onnx"
        if not scan:
            write_cohort(Path(scratch), 1, seed=0)
            (scan,) = map(str, (Path(scratch) / "scans").iterdir())
        scanned = fit_hu(axial_slices(read_ct(Path(scan))[0].voxels), SIZE)
        ServedModel(network, SIZE, 0.5).save(folder)
        to_onnx(network, onnx)
        runs = {
            "TensorFlow, as served": by_tensorflow(folder),
            "ONNX Runtime": by_onnx_runtime(onnx),
            "OpenVINO, float32": by_openvino(onnx, "f32"),
            "OpenVINO, bfloat16": by_openvino(onnx, "bf16"),  # OpenVINO's default if the CPU supports it
        }
        rows = [("", "batch", "slices/s", "ratio", "largest difference")]
        for batch in BATCHES:
            middle = len(scanned) // 2
            slices = np.resize(scanned[middle:], (batch, SIZE, SIZE))
            seconds: dict[str, list[float]] = {name: [] for name in runs}
            outputs = {}
            for number in range(ROUNDS + 2):
                for name, run in runs.items():
                    started = time.perf_counter()
                    outputs[name] = run(slices)
                    if number >= 2:  # the first calls select kernels
                        seconds[name].append(time.perf_counter() - started)
            first = next(iter(runs))
            for name in runs:
                median = statistics.median(seconds[name])
                ratio = statistics.median(seconds[first]) / median
                difference = np.abs(outputs[name].reshape(slices.shape) - outputs[first]).max()
                rows.append((name, str(batch), f"{batch / median:.0f}", f"{ratio:.2f}", f"{difference:.1e}"))
    print_table(f"the network in three runtimes, {os.cpu_count()} cores ({weights or 'untrained'})", rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
