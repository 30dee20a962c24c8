"""Cost of a case of 512×512×200 voxels in ingest, validate and slice: `python -m tests.bench.pipeline_scale`.

Prints wall seconds, CPU seconds and megabytes written per case, for the scale table of docs/operations.md.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from components.ingest.ingest import ingest
from components.slice.slicing import slice_cohort
from components.validate.validate import Outputs, validate
from tests.bench.ingest_cohort import write_cohort


def main(cases: int) -> None:
    """Write a cohort, run each step on it, and print its costs."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        source, copies, shards = folder / "source", folder / "cases", folder / "shards"
        write_cohort(source, cases)
        (source / "masks").rename(source / "infection_masks")
        steps: dict[str, tuple[Callable[[], object], Path]] = {
            "ingest": (lambda: ingest(str(source), copies), copies),
            "validate": (lambda: validate(copies, Outputs.inside(folder)), folder / "report"),
            "slice": (lambda: slice_cohort(copies, copies, shards), shards),
        }
        for name, (step, output) in steps.items():
            wall_s, cpu_s = time.perf_counter(), time.process_time()
            step()
            wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
            seconds = f"{wall_s / cases:6.2f} s  {cpu_s / cases:6.2f} CPU s"
            print(f"{name:9} {seconds}  {_megabytes(output) / cases:7.2f} MB per case", flush=True)


def _megabytes(path: Path) -> float:
    return sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file()) / 1e6


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4)
