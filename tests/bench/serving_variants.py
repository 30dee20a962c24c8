"""The exported graph in float32 and in bfloat16: size on disk, speed on this processor, and how far the masks part.

Run: python -m tests.bench.serving_variants [model.keras]

Without a trained model the network is untrained: size and speed are the same, the masks mean nothing. Variants take
turns, so that a disturbance meets both. No export holds optimizer state: the model is loaded without compiling it.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from components.ct.grid import axial_slices, fit_hu
from components.ct.intensity import read_ct
from components.ct.phantom import write_cohort
from components.export.signatures import ServedModel
from components.train.network import build_network, load_model
from tests.bench.serving_setup import SIZE, print_table

BATCH, ROUNDS = 32, 12


def megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def phantom_slices(folder: Path) -> np.ndarray:
    """A batch of slices with lungs in them."""
    write_cohort(folder, 1, seed=0)
    scan = next(folder.glob("scans/*.nii.gz"))
    slices = fit_hu(axial_slices(read_ct(scan)[0].voxels), SIZE)
    return np.resize(slices, (BATCH, SIZE, SIZE))


def main(weights: str = "") -> None:
    trained = load_model(Path(weights)) if weights else build_network(SIZE)
    loaded, sizes, signatures = [], {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        slices = tf.constant(phantom_slices(Path(scratch) / "phantom"))
        for dtype in ("float32", "mixed_bfloat16"):
            network = build_network(SIZE, dtype=dtype)
            network.set_weights(trained.get_weights())
            folder = Path(scratch) / dtype
            ServedModel(network, SIZE, 0.5).save(folder)
            sizes[dtype] = megabytes(folder)
            loaded.append(tf.saved_model.load(str(folder)))  # kept: a signature alone does not keep its variables
            signatures[dtype] = loaded[-1].signatures["network"]
        seconds = {dtype: [] for dtype in signatures}
        answers = {}
        for number in range(ROUNDS + 2):
            for dtype, signature in signatures.items():
                started = time.perf_counter()
                answers[dtype] = signature(slices_hu=slices)["lesion_probability"].numpy()
                if number >= 2:  # the first calls plan their kernels
                    seconds[dtype].append(time.perf_counter() - started)
    reference = answers["float32"]
    rows = [("", "MB", "slices/s", "ratio", "largest difference", "Dice with float32")]
    base = statistics.median(seconds["float32"])
    for dtype, answer in answers.items():
        median = statistics.median(seconds[dtype])
        both, one = ((answer >= 0.5) & (reference >= 0.5)).sum(), (answer >= 0.5).sum() + (reference >= 0.5).sum()
        dice = 2 * both / one if one else 1.0
        difference = np.abs(answer - reference).max()
        speed = f"{BATCH / median:.0f}", f"{base / median:.2f}"
        rows.append((dtype, f"{sizes[dtype]:.1f}", *speed, f"{difference:.1e}", f"{dice:.4f}"))
    print_table(f"variants of the exported graph, batches of {BATCH} ({weights or 'untrained'})", rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
