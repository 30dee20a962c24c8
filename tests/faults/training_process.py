"""Train on tiny shards in a process that a test can kill: `python -m tests.faults.training_process ...`."""

import dataclasses
import resource
import sys
from pathlib import Path

from components.runtime.step import step_process
from components.train.recipe import Recipe
from components.train.training import train

TINY = Recipe(filters=(4, 8), epochs=6, slices_per_epoch=32, learning_rate=2e-2)


def main(shards: str, output: str, checkpoints: str, batch_size: str = "8", more_bytes: str = "0") -> None:
    """Train; `more_bytes` limits the address space to the present size plus that."""
    if int(more_bytes):
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + int(more_bytes),) * 2)
    recipe = dataclasses.replace(TINY, batch_size=int(batch_size))
    with step_process():
        train(Path(shards), Path(output), recipe=recipe, seed=1, checkpoints=Path(checkpoints))


if __name__ == "__main__":
    main(*sys.argv[1:])
