"""Time of a training step: from the shards against tensors that are in memory, and in 16 bits against float32.

Run: python -m tests.bench.train_steps [rounds] [image size]

Wall time tells of an idle machine only; the CPU time of this process stands beside it, which others disturb less.
Rounds take turns, so that a disturbance meets all of them.
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
from components.train.examples import survey, training_batches
from components.train.precision import mixed_precision_policy
from components.train.recipe import Recipe
from components.train.training import _compile, _network

STEPS, SLICES = 24, 40


def write_noise(folder: Path, size: int) -> Path:
    """Shards of noise with a square lesion: only the time counts."""
    draw = np.random.default_rng(0)
    (folder / "train").mkdir(parents=True)
    hu = draw.integers(-1024, 300, (SLICES, size, size)).astype(np.int16)
    lesion = np.zeros(hu.shape, np.uint8)
    lesion[:, : size // 4, : size // 4] = 255
    write_shard(folder / "train" / "noise.tfrecord", "noise", np.arange(SLICES), hu, lesion)
    Split({"train": ["noise"], "validation": [], "test": []}, size, 0).write(folder)
    return folder


def compiled(recipe: Recipe, size: int, policy: str) -> keras.Model:
    """The recipe's network, ready to train."""
    model = _network(recipe, size, policy)
    _compile(model, recipe, steps=1000)
    return model


def measure(model: keras.Model, stream: tf.data.Dataset) -> tuple[float, float]:
    """Milliseconds a slice, on the clock and of all processors."""
    model.fit(stream, steps_per_epoch=2, epochs=1, verbose=0)
    clock, busy = _EpochClock(), _EpochClock(time.process_time)
    model.fit(stream, steps_per_epoch=STEPS, epochs=2, verbose=0, callbacks=[clock, busy])
    slices = STEPS * Recipe().batch_size
    return min(clock.seconds) / slices * 1e3, min(busy.seconds) / slices * 1e3


class _EpochClock(keras.callbacks.Callback):
    """Seconds of each epoch, without `fit`'s own beginning and end."""

    def __init__(self, now=time.perf_counter):
        super().__init__()
        self._now = now
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self._started = self._now()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(self._now() - self._started)


def main(rounds: int, size: int) -> None:
    """Print the best of the rounds for each way, and the ratios."""
    recipe, policy = Recipe(), mixed_precision_policy()
    with tempfile.TemporaryDirectory() as name:
        shards = write_noise(Path(name), size)
        found = survey(shards, size)
        batches = list(islice(training_batches(shards, size, found, recipe, seed=0), 8))
        memory = tf.data.Dataset.from_tensor_slices(tuple(map(np.stack, zip(*batches, strict=True)))).repeat()
        plain = dataclasses.replace(recipe, augmentation=None)
        ways = {
            f"tensors in memory, {policy}": (compiled(recipe, size, policy), memory),
            f"shards, augmented, {policy}": (
                compiled(recipe, size, policy),
                training_batches(shards, size, found, recipe, seed=0),
            ),
            f"shards, not augmented, {policy}": (
                compiled(plain, size, policy),
                training_batches(shards, size, found, plain, seed=0),
            ),
            "tensors in memory, float32": (compiled(recipe, size, "float32"), memory),
        }
        best = dict.fromkeys(ways, (np.inf, np.inf))
        for _ in range(rounds):
            for way, (model, stream) in ways.items():
                best[way] = tuple(map(min, zip(best[way], measure(model, stream), strict=True)))
    for way, (wall, busy) in best.items():
        print(f"{way:44s} {wall:6.1f} ms a slice, {busy:6.1f} CPU ms")
    memory_ms, augmented_ms, plain_ms, float32_ms = best.values()
    for what, one, other in (
        ("throughput from shards, augmented", memory_ms, augmented_ms),
        ("throughput from shards, not augmented", memory_ms, plain_ms),
        (f"speed of {policy} over float32", float32_ms, memory_ms),
    ):
        print(f"{what}: {one[0] / other[0]:.2f} by the clock, {one[1] / other[1]:.2f} by CPU time")


if __name__ == "__main__":
    arguments = [int(word) for word in sys.argv[1:]]
    main(*arguments, *(3, 128)[len(arguments) :])
