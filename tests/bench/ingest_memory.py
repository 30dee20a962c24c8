"""Whether memory grows with the cohort: `python -m tests.bench.ingest_memory`. Each number is a process of its own."""

import os
import resource
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from components.ct.cases import read_cases, write_cases
from components.ct.workers import each_case
from tests.bench.ingest_cohort import write_cohort

WORKERS = 2
LIMIT_GB = 1.2  # for each worker


def main() -> None:
    """Print the peak memory of slicing and of fact-finding over 4 and over 16 cases."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        table = write_cohort(folder / "16", 16)
        (folder / "4").mkdir()
        for name in ("scans", "masks"):
            (folder / "4" / name).symlink_to(folder / "16" / name)
        write_cases(folder / "4", table[:4])
        for step in ("slice", "validate"):
            few, many = (_peak_gb(step, folder / cases) for cases in ("4", "16"))
            print(
                f"{step:8} {WORKERS} workers: 4 cases {few:.2f} GB, 16 cases {many:.2f} GB, ratio {many / few:.2f}; "
                f"{many / WORKERS:.2f} GB a worker (at most {LIMIT_GB})"
            )


def _peak_gb(step: str, folder: Path) -> float:
    command = [sys.executable, "-m", "tests.bench.ingest_memory", step, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def _run(step: str, folder: Path) -> None:
    """Do one step in this process, and print the most memory it held, libraries included."""
    if step == "slice":
        from components.slice.slicing import slice_cohort

        slice_cohort(folder, folder, folder / "out", workers=WORKERS)
    else:
        from components.validate.inspection import inspect_case

        each_case(partial(inspect_case, folder, image_size=128), read_cases(folder), "checked", WORKERS)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)


if __name__ == "__main__":
    if sys.argv[1:]:
        _run(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
