"""Trains on tiny shards as one of several pods, or over two devices: `python -m tests.train.worker_process ...`."""

import dataclasses
import json
import sys
from pathlib import Path

import tensorflow as tf

from components.train.recipe import PRESETS
from components.train.training import train

# Float32, so that two replicas differ from one by the statistics of half batches alone.
TINY = dataclasses.replace(
    PRESETS["default"], filters=(4, 8), epochs=3, slices_per_epoch=32, learning_rate=2e-2, mixed_precision=False
)


def main(shards: str, output: str, checkpoints: str, devices: str = "1") -> None:
    """Train, and tell the history in the last line."""
    strategy = None
    if devices == "2":
        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    run = train(Path(shards), Path(output), recipe=TINY, seed=1, checkpoints=Path(checkpoints), strategy=strategy)
    print(json.dumps({"history": run.history, "resumed_after": run.resumed_after}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
