"""Memory against the size of the cohort: `python -m tests.bench.ingest_memory`.

Peak resident memory of a process per number, libraries included, for 4 and for 16 cases of 512×512×200 voxels.
"""

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from components.ct.cases import write_cases
from tests.bench.ingest_cohort import write_cohort

WORKERS = 2
LIMIT_GB = 1.2  # per worker


def main() -> None:
    """Print the peak memory of ingesting, validating and slicing 4 and 16 cases."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        table = write_cohort(folder / "16", 16)
        (folder / "4").mkdir()
        for name in ("scans", "masks"):
            (folder / "4" / name).mkdir()
            for case in table[:4]:
                os.link(folder / "16" / name / f"{case.case_id}.nii.gz", folder / "4" / name / f"{case.case_id}.nii.gz")
        write_cases(folder / "4", table[:4])
        print(f"peak memory in GB, {WORKERS} workers, cases of 512×512×200; at most {LIMIT_GB} per worker\n")
        print(f"{'step':10}{'4 cases':>10}{'16 cases':>10}{'16 / 4':>10}{'per worker':>12}")
        for step in ("ingest", "validate", "slice"):
            few, many = (_peak_gb(step, folder / cases) for cases in ("4", "16"))
            print(f"{step:10}{few:10.2f}{many:10.2f}{many / few:10.2f}{many / WORKERS:12.2f}", flush=True)


def _peak_gb(step: str, folder: Path) -> float:
    command = [sys.executable, "-m", "tests.bench.ingest_memory", step, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def _run(step: str, folder: Path) -> None:
    """Run one step in this process, and print its peak memory in GB."""
    out = folder.with_name(f"out_{step}")
    if step == "ingest":
        from components.ingest.ingest import ingest

        ingest(str(folder), out, masks="masks", workers=WORKERS)
    elif step == "validate":
        from components.validate.validate import Outputs, validate

        validate(folder, Outputs.inside(out), workers=WORKERS)
    else:
        from components.slice.slicing import slice_cohort

        slice_cohort(folder, folder, out, workers=WORKERS)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)


if __name__ == "__main__":
    if sys.argv[1:]:
        _run(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
