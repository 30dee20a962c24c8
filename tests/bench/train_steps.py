"""Measure the time of a training step: from shards and from memory, in 16 bits and in float32.

Run: python -m tests.bench.train_steps [rounds] [image size]

Wall time is valid only on an idle machine; other processes disturb the CPU time less. Each round measures every variant
once, so a disturbance affects all of them.
"""

import dataclasses
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from components.slice.shards import write_shard
from components.slice.split import Split
from components.train.batches import count_slices, training_batches
from components.train.devices import mixed_precision_policy
from components.train.network import build_network
from components.train.recipe import Recipe
from components.train.training import compile_network

STEPS, SLICES = 24, 40


def write_noise(folder: Path, size: int) -> Path:
    """Write shards of noise with a square lesion."""
    draw = np.random.default_rng(0)
    (folder / "train").mkdir(parents=True)
    hu = draw.integers(-1024, 300, (SLICES, size, size)).astype(np.int16)
    lesion = np.zeros(hu.shape, np.uint8)
    lesion[:, : size // 4, : size // 4] = 255
    write_shard(folder / "train" / "noise.tfrecord", "noise", np.arange(SLICES), hu, lesion)
    Split({"train": ["noise"], "validation": [], "test": []}, size, 0).write(folder)
    return folder


def build_compiled(recipe: Recipe, size: int, policy: str) -> keras.Model:
    """Build the recipe's network, ready to train."""
    model = build_network(size, recipe, dtype=policy)
    compile_network(model, recipe, steps=1000)
    return model


def measure(model: keras.Model, stream: tf.data.Dataset) -> tuple[float, float]:
    """Measure wall and CPU milliseconds for each slice."""
    model.fit(stream, steps_per_epoch=2, epochs=1, verbose=0)
    wall, cpu = _EpochClock(), _EpochClock(time.process_time)
    model.fit(stream, steps_per_epoch=STEPS, epochs=2, verbose=0, callbacks=[wall, cpu])
    slices = STEPS * Recipe().batch_size
    return min(wall.seconds) / slices * 1e3, min(cpu.seconds) / slices * 1e3


class _EpochClock(keras.callbacks.Callback):
    """Seconds of each epoch, without the overhead of `fit`."""

    def __init__(self, now=time.perf_counter):
        super().__init__()
        self._now = now
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self._started = self._now()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(self._now() - self._started)


def main(rounds: int, size: int) -> None:
    """Print the best round of each variant, and the ratios."""
    recipe, policy = Recipe(), mixed_precision_policy()
    with tempfile.TemporaryDirectory() as name:
        shards = write_noise(Path(name), size)
        counts = count_slices(shards, size)
        batches = list(islice(training_batches(shards, size, counts, recipe, seed=0), 8))
        memory = tf.data.Dataset.from_tensor_slices(tuple(map(np.stack, zip(*batches, strict=True)))).repeat()
        plain = dataclasses.replace(recipe, augmentation=None)
        variants = {
            f"tensors in memory, {policy}": (build_compiled(recipe, size, policy), memory),
            f"shards, augmented, {policy}": (
                build_compiled(recipe, size, policy),
                training_batches(shards, size, counts, recipe, seed=0),
            ),
            f"shards, not augmented, {policy}": (
                build_compiled(plain, size, policy),
                training_batches(shards, size, counts, plain, seed=0),
            ),
            "tensors in memory, float32": (build_compiled(recipe, size, "float32"), memory),
        }
        best = dict.fromkeys(variants, (np.inf, np.inf))
        for _ in range(rounds):
            for variant, (model, stream) in variants.items():
                best[variant] = tuple(map(min, zip(best[variant], measure(model, stream), strict=True)))
    for variant, (wall, cpu) in best.items():
        print(f"{variant:44s} {wall:6.1f} ms per slice, {cpu:6.1f} CPU ms")
    memory_ms, augmented_ms, plain_ms, float32_ms = best.values()
    for what, one, other in (
        ("throughput from shards, augmented", memory_ms, augmented_ms),
        ("throughput from shards, not augmented", memory_ms, plain_ms),
        (f"speed of {policy} over float32", float32_ms, memory_ms),
    ):
        print(f"{what}: {one[0] / other[0]:.2f} wall, {one[1] / other[1]:.2f} CPU")


if __name__ == "__main__":
    arguments = [int(word) for word in sys.argv[1:]]
    main(*arguments, *(3, 128)[len(arguments) :])
