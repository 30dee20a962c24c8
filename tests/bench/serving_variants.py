"""The exported graph in float32 and bfloat16: size on disk, speed on this CPU, and Dice.

Run: python -m tests.bench.serving_variants [model.keras [folder of scans, folder of masks with the same names]]

Without a trained model, the network is untrained: size and speed are equal, Dice is meaningless. Without folders, the
scans are phantoms. Variants are interleaved: other load on the machine affects both. `checkpoint` is the size of the
weights with the optimizer's state, which an export does not contain.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from components.ct.grid import axial_slices, fit_hu, fit_mask
from components.ct.intensity import read_ct
from components.ct.metrics import dice
from components.ct.phantom import write_cohort
from components.ct.volume import read_volume
from components.export.signatures import ServedModel
from components.train.network import build_network, load_model
from serving.versions.contract import PROBABILITY
from tests.bench.serving_setup import SIZE, print_table

BATCH, ROUNDS, CASES, SEED = 32, 12, 3, 4242


def megabytes(path: Path) -> float:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def cases_on_grid(scans: Path, masks: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return each scan's slices and mask on the grid."""
    cases = []
    for scan in sorted(scans.glob("*.nii.gz")):
        mask = read_volume(masks / scan.name).voxels > 0
        slices = fit_hu(axial_slices(read_ct(scan)[0].voxels), SIZE)
        cases.append((slices, fit_mask(axial_slices(mask.astype(np.uint8)), SIZE) > 127))
    return cases


def checkpoint_megabytes(network: keras.Model, folder: Path) -> float:
    """Return the size of the weights with the optimizer state of training."""
    optimizer = keras.optimizers.Adam()
    optimizer.build(network.trainable_variables)
    tf.train.Checkpoint(network=network, optimizer=optimizer).write(str(folder / "checkpoint"))
    return megabytes(folder)


def main(weights: str = "", scans: str = "", masks: str = "") -> None:
    trained = load_model(Path(weights)) if weights else build_network(SIZE)
    loaded, signatures, rows = [], {}, []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if not scans:
            write_cohort(folder / "phantom", CASES, SEED)
            scans, masks = str(folder / "phantom" / "scans"), str(folder / "phantom" / "infection_masks")
        cases = cases_on_grid(Path(scans), Path(masks))
        (folder / "checkpoint").mkdir()
        rows.append(("checkpoint", f"{checkpoint_megabytes(trained, folder / 'checkpoint'):.1f}", *[""] * 5))
        sizes = {}
        for dtype in ("float32", "mixed_bfloat16"):
            network = build_network(SIZE, dtype=dtype)
            network.set_weights(trained.get_weights())
            ServedModel(network, SIZE, 0.5).save(folder / dtype)
            sizes[dtype] = megabytes(folder / dtype)
            loaded.append(tf.saved_model.load(str(folder / dtype)))  # a signature does not keep its variables alive
            signatures[dtype] = loaded[-1].signatures["network"]
        seconds = time_interleaved(signatures, tf.constant(np.resize(cases[0][0], (BATCH, SIZE, SIZE))))
    outputs = {dtype: [predict(signature, slices) for slices, _ in cases] for dtype, signature in signatures.items()}
    for dtype, probabilities in outputs.items():
        median = statistics.median(seconds[dtype])
        ratio = statistics.median(seconds["float32"]) / median
        scores = [dice(mask, probability >= 0.5) for probability, (_, mask) in zip(probabilities, cases, strict=True)]
        equal = np.concatenate(
            [((a >= 0.5) == (b >= 0.5)).ravel() for a, b in zip(probabilities, outputs["float32"], strict=True)]
        )
        difference = max(np.abs(a - b).max() for a, b in zip(probabilities, outputs["float32"], strict=True))
        speed = f"{BATCH / median:.0f}", f"{ratio:.2f}"
        rows.append(
            (dtype, f"{sizes[dtype]:.1f}", *speed, f"{difference:.1e}", f"{equal.mean():.4%}", f"{np.mean(scores):.4f}")
        )
    heading = ("", "MB", "slices/s", "ratio", "largest difference", "same mask", "mean Dice")
    print_table(
        f"variants, batches of {BATCH}, {len(cases)} scans ({'trained' if weights else 'untrained'})", [heading, *rows]
    )


def predict(signature, slices: np.ndarray) -> np.ndarray:
    parts = [tf.constant(slices[start : start + BATCH]) for start in range(0, len(slices), BATCH)]
    return np.concatenate([signature(slices_hu=part)[PROBABILITY].numpy() for part in parts])


def time_interleaved(signatures, batch) -> dict[str, list[float]]:
    seconds = {dtype: [] for dtype in signatures}
    for number in range(ROUNDS + 2):
        for dtype, signature in signatures.items():
            started = time.perf_counter()
            signature(slices_hu=batch)[PROBABILITY].numpy()
            if number >= 2:  # the first calls select kernels
                seconds[dtype].append(time.perf_counter() - started)
    return seconds


if __name__ == "__main__":
    main(*sys.argv[1:])
