"""Speed from files to shards and facts, as ratios within one run: `python -m tests.bench.ingest_speed`.

    decompress    lower bound: isal's igzip reads each scan and mask and checks its CRC
    shards        the slice step: digest and CRC, intensity, both fitted to the grid, TFRecords
    facts         the validate step for each case: facts, resize audit, picture
    baseline      nibabel's get_fdata, one eager tf.image.resize_with_pad per slice, one array written

All variants read the same files, take turns, and count with their fastest round: other load on the machine affects
them alike. The ratios of CPU seconds also hold on a busy machine.
"""

import os
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
    ("baseline", "shards, 2 workers", "at least 4"),
    ("shards, 1 worker", "shards, 2 workers", "at least 1.7"),
    ("decompress, 1 worker", "decompress, 2 workers", "gain of a second processor"),
    ("shards, 2 workers", "decompress, 2 workers", "at most 2"),
    ("facts, 2 workers", "decompress, 2 workers", "at most 2.5"),
)


def main() -> None:
    """Write a cohort, time every variant, and print seconds and ratios."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        table = write_cohort(folder, CASES)
        variants: dict[str, Callable[[], object]] = {
            "decompress, 2 workers": lambda: map_cases(partial(_decompress, folder), table, "", 2),
            "decompress, 1 worker": lambda: map_cases(partial(_decompress, folder), table, "", 1),
            "shards, 2 workers": lambda: slice_cohort(folder, folder, folder / "out", workers=2),
            "shards, 1 worker": lambda: slice_cohort(folder, folder, folder / "out", workers=1),
            "facts, 2 workers": lambda: map_cases(partial(_inspect, folder), table, "", 2),
            "baseline": lambda: [_run_baseline(folder, case) for case in table],
        }
        timings = {name: Timing(float("inf"), float("inf")) for name in variants}
        for round_ in range(ROUNDS):
            for name, variant in variants.items():
                if name == "baseline" and round_:
                    continue  # slow and steady
                timings[name] = _measure(variant).faster(timings[name])
    print(f"{CASES} scans of 512×512×200 int16 with their masks, .nii.gz; best of {ROUNDS} rounds\n")
    print(f"{'seconds':48}{'wall':>8}{'CPU':>8}{'per case':>10}")
    for name, timing in timings.items():
        print(f"{name:48}{timing.wall_s:8.2f}{timing.cpu_s:8.2f}{timing.wall_s / CASES:10.2f}")
    print(f"\n{'ratio':48}{'wall':>8}{'CPU':>8}  target")
    for over, under, target in _RATIOS:
        wall, cpu = timings[over].wall_s / timings[under].wall_s, timings[over].cpu_s / timings[under].cpu_s
        print(f"{f'{over} / {under}':48}{wall:8.2f}{cpu:8.2f}  {target}")


@dataclass(frozen=True)
class Timing:
    """Wall time, and CPU time of all processors."""

    wall_s: float
    cpu_s: float

    def faster(self, other: "Timing") -> "Timing":
        return Timing(min(self.wall_s, other.wall_s), min(self.cpu_s, other.cpu_s))


def _measure(variant: Callable[[], object]) -> Timing:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    variant()
    return Timing(time.perf_counter() - wall_s, time.process_time() - cpu_s)


def _decompress(folder: Path, case: Case) -> None:
    buffer = bytearray(_BLOCK_BYTES)
    for name in (case.scan, case.mask):
        with igzip.open(folder / name, "rb") as stream:
            while stream.readinto(buffer):
                pass


def _inspect(folder: Path, case: Case) -> None:
    inspect_case(folder, case, SIZE)


def _run_baseline(folder: Path, case: Case) -> None:
    """Load whole volumes as float64, resize slice by slice, and write one array."""
    for name in (case.scan, case.mask):
        voxels = nib.load(folder / name).get_fdata()
        resized = [
            tf.image.resize_with_pad(voxels[:, :, index, None], SIZE, SIZE).numpy() for index in range(voxels.shape[2])
        ]
        np.save(folder / "baseline.npy", np.array(resized))


if __name__ == "__main__":
    main()
