"""Trains on tiny shards in a process of its own, to be killed: `python -m tests.faults.training_process ...`."""

import dataclasses
import resource
import sys
from pathlib import Path

from components.runtime.errors import exit_on_input_error
from components.train.recipe import PRESETS
from components.train.training import train

TINY = dataclasses.replace(PRESETS["default"], filters=(4, 8), epochs=6, slices_per_epoch=32, learning_rate=2e-2)


def main(shards: str, output: str, checkpoints: str, batch_size: str = "8", more_bytes: str = "0") -> None:
    """Train; with `more_bytes`, in so much more address space than the process has by now."""
    if int(more_bytes):
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + int(more_bytes),) * 2)
    recipe = dataclasses.replace(TINY, batch_size=int(batch_size))
    with exit_on_input_error():
        train(Path(shards), Path(output), recipe=recipe, seed=1, checkpoints=Path(checkpoints))


if __name__ == "__main__":
    main(*sys.argv[1:])
