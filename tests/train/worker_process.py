"""Train on tiny shards as one of several pods, or on two devices: `python -m tests.train.worker_process ...`."""

import json
import sys
from pathlib import Path

import tensorflow as tf

from components.runtime.step import step_process
from components.train.recipe import Recipe
from components.train.training import train

# In float32 two replicas differ from one only by the batch normalization of half batches.
TINY = Recipe(filters=(4, 8), epochs=3, slices_per_epoch=32, learning_rate=2e-2, mixed_precision=False)


def main(shards: str, output: str, checkpoints: str, devices: str = "1") -> None:
    """Train, and print the history as the last line."""
    strategy = None
    if devices == "2":
        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with step_process():
        run = train(Path(shards), Path(output), recipe=TINY, seed=1, checkpoints=Path(checkpoints), strategy=strategy)
    print(json.dumps({"history": run.history, "resumed_after": run.resumed_after}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
