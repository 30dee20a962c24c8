"""How fast files become shards and facts, as ratios within one run: `python -m tests.bench.ingest_speed`.

    decompress only   the bare floor: isal's igzip through each scan and mask, its CRC checked, nothing kept
    files to shards   what `slice` does: digest and CRC checked, intensity, both fitted to the grid, TFRecords written
    files to facts    what `validate` does with each case: fact table row, resize audit, picture
    the seed's way    nibabel's get_fdata, one eager tf.image.resize_with_pad for each slice, one array written

Every way reads the same files. The ways take turns, and the fastest of their rounds counts, so that what else the
machine does touches all of them alike.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import nibabel as nib
import numpy as np
import tensorflow as tf
from isal import igzip

from components.ct.cases import Case
from components.ct.workers import each_case
from components.slice.slicing import slice_cohort
from components.validate.inspection import inspect_case
from tests.bench.ingest_cohort import write_cohort

CASES, SIZE, ROUNDS = 4, 128, 3
_BLOCK_BYTES = 1 << 20


def main() -> None:
    """Write a cohort, time every way, and print seconds and ratios."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        table = write_cohort(folder, CASES)
        ways: dict[str, Callable[[], object]] = {
            "decompress only, 2 workers": lambda: each_case(partial(_decompress, folder), table, "", 2),
            "decompress only, 1 worker": lambda: each_case(partial(_decompress, folder), table, "", 1),
            "files to shards, 2 workers": lambda: slice_cohort(folder, folder, folder / "out", workers=2),
            "files to shards, 1 worker": lambda: slice_cohort(folder, folder, folder / "out", workers=1),
            "files to facts, 2 workers": lambda: each_case(partial(_inspect, folder), table, "", 2),
            "the seed's way": lambda: [_seeds_way(folder, case) for case in table],
        }
        seconds = {name: float("inf") for name in ways}
        for round_ in range(ROUNDS):
            for name, way in ways.items():
                if name == "the seed's way" and round_:
                    continue  # slow, and steady
                seconds[name] = min(seconds[name], _timed(way))
    print(f"{CASES} scans of 512×512×200 int16 with their masks, .nii.gz; the fastest of {ROUNDS} rounds\n")
    print(f"{'':36}{'seconds':>10}{'a case':>10}")
    for name, taken in seconds.items():
        print(f"{name:36}{taken:10.2f}{taken / CASES:10.2f}")
    print(f"\n{'':58}{'ratio':>8}  target")
    for what, ratio, target in _ratios(seconds):
        print(f"{what:58}{ratio:8.2f}  {target}")


def _ratios(seconds: dict[str, float]) -> list[tuple[str, float, str]]:
    shards, floor = seconds["files to shards, 2 workers"], seconds["decompress only, 2 workers"]
    facts = seconds["files to facts, 2 workers"]
    return [
        ("the seed's way / files to shards with 2 workers", seconds["the seed's way"] / shards, "at least 4"),
        ("files to shards, 1 worker / 2 workers", seconds["files to shards, 1 worker"] / shards, "at least 1.7"),
        ("decompress only, 1 worker / 2 workers", seconds["decompress only, 1 worker"] / floor, "what 2 cores give"),
        ("files to shards / decompress only, 2 workers each", shards / floor, "at most 2"),
        ("files to facts / decompress only, 2 workers each", facts / floor, "at most 2.5"),
    ]


def _timed(way: Callable[[], object]) -> float:
    silent, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115
    started = time.perf_counter()
    try:
        way()
    finally:
        sys.stdout.close()
        sys.stdout = silent
    return time.perf_counter() - started


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
