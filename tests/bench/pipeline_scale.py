"""What one case of 512×512×200 voxels costs in ingest, validate and slice: `python -m tests.bench.pipeline_scale`.

Clock and processor seconds, and bytes written, a case: the figures behind the scale table of docs/operations.md.
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
    """Write a cohort, run the steps on it, and print a line each."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        source, copies, shards = folder / "source", folder / "cases", folder / "shards"
        write_cohort(source, cases)
        (source / "masks").rename(source / "infection_masks")
        outputs = Outputs(*(folder / name for name in ("accepted", "facts", "profile", "data_docs", "report")))
        steps: dict[str, tuple[Callable[[], object], Path]] = {
            "ingest": (lambda: ingest(str(source), copies), copies),
            "validate": (lambda: validate(copies, outputs), folder / "report"),
            "slice": (lambda: slice_cohort(copies, copies, shards), shards),
        }
        for name, (step, output) in steps.items():
            clock, busy = time.perf_counter(), time.process_time()
            step()
            clock, busy = time.perf_counter() - clock, time.process_time() - busy
            seconds = f"{clock / cases:6.2f} s  {busy / cases:6.2f} CPU s"
            print(f"{name:9} {seconds}  {_megabytes(output) / cases:7.2f} MB a case", flush=True)


def _megabytes(path: Path) -> float:
    return sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file()) / 1e6


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4)
