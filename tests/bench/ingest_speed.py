"""How fast files become shards and facts, as ratios within one run: `python -m tests.bench.ingest_speed`.

    decompress      the bare floor: isal's igzip through each scan and mask, its CRC checked, nothing kept
    shards          what `slice` does: digest and CRC checked, intensity, both fitted to the grid, TFRecords written
    facts           what `validate` does with each case: fact table row, resize audit, picture
    the seed's way  nibabel's get_fdata, one eager tf.image.resize_with_pad for each slice, one array written

Every way reads the same files. The ways take turns, and the fastest of their rounds counts, so that what else the
machine does touches all of them alike; the ratios of CPU seconds hold on a busy machine, too.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import nibabel as nib
import numpy as np
import tensorflow as tf
from isal import igzip

from components.ct.cases import Case
from components.runtime.workers import map_cases
from components.slice.slicing import slice_cohort
from components.validate.inspection import inspect_case
from tests.bench.ingest_cohort import write_cohort

CASES, SIZE, ROUNDS = 4, 128, 5
_BLOCK_BYTES = 1 << 20
_RATIOS = (
    ("the seed's way", "shards, 2 workers", "at least 4"),
    ("shards, 1 worker", "shards, 2 workers", "at least 1.7"),
    ("decompress, 1 worker", "decompress, 2 workers", "what two processors give here"),
    ("shards, 2 workers", "decompress, 2 workers", "at most 2"),
    ("facts, 2 workers", "decompress, 2 workers", "at most 2.5"),
)


def main() -> None:
    """Write a cohort, take the time of every way, and print seconds and ratios."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        table = write_cohort(folder, CASES)
        ways: dict[str, Callable[[], object]] = {
            "decompress, 2 workers": lambda: map_cases(partial(_decompress, folder), table, "", 2),
            "decompress, 1 worker": lambda: map_cases(partial(_decompress, folder), table, "", 1),
            "shards, 2 workers": lambda: slice_cohort(folder, folder, folder / "out", workers=2),
            "shards, 1 worker": lambda: slice_cohort(folder, folder, folder / "out", workers=1),
            "facts, 2 workers": lambda: map_cases(partial(_inspect, folder), table, "", 2),
            "the seed's way": lambda: [_seeds_way(folder, case) for case in table],
        }
        taken = {name: Taken(float("inf"), float("inf")) for name in ways}
        for round_ in range(ROUNDS):
            for name, way in ways.items():
                if name == "the seed's way" and round_:
                    continue  # slow, and steady
                taken[name] = _timed(way).or_faster(taken[name])
    print(f"{CASES} scans of 512×512×200 int16 with their masks, .nii.gz; the fastest of {ROUNDS} rounds\n")
    print(f"{'seconds':48}{'wall':>8}{'CPU':>8}{'a case':>8}")
    for name, way in taken.items():
        print(f"{name:48}{way.wall_s:8.2f}{way.cpu_s:8.2f}{way.wall_s / CASES:8.2f}")
    print(f"\n{'ratio':48}{'wall':>8}{'CPU':>8}  target")
    for over, under, target in _RATIOS:
        wall, cpu = taken[over].wall_s / taken[under].wall_s, taken[over].cpu_s / taken[under].cpu_s
        print(f"{f'{over} / {under}':48}{wall:8.2f}{cpu:8.2f}  {target}")


@dataclass(frozen=True)
class Taken:
    """How long a way took: by the clock, and of all processors together."""

    wall_s: float
    cpu_s: float

    def or_faster(self, other: "Taken") -> "Taken":
        return Taken(min(self.wall_s, other.wall_s), min(self.cpu_s, other.cpu_s))


def _timed(way: Callable[[], object]) -> Taken:
    silent, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    try:
        way()
    finally:
        sys.stdout.close()
        sys.stdout = silent
    return Taken(time.perf_counter() - wall_s, time.process_time() - cpu_s)


def _decompress(folder: Path, case: Case) -> None:
    buffer = bytearray(_BLOCK_BYTES)
    for name in (case.scan, case.mask):
        with igzip.open(folder / name, "rb") as stream:
            while stream.readinto(buffer):
                pass


def _inspect(folder: Path, case: Case) -> None:
    inspect_case(folder, case, SIZE)


def _seeds_way(folder: Path, case: Case) -> None:
    """Whole volumes as float64, one eager resize for each slice, and one array written at the end."""
    for name in (case.scan, case.mask):
        voxels = nib.load(folder / name).get_fdata()
        resized = [
            tf.image.resize_with_pad(voxels[:, :, index, None], SIZE, SIZE).numpy() for index in range(voxels.shape[2])
        ]
        np.save(folder / "seed.npy", np.array(resized))


if __name__ == "__main__":
    main()
