"""A worker pool over the cases of a cohort."""

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
_QUOTA_FILE = Path("/sys/fs/cgroup/cpu.max")  # cgroup v2: quota ("max" for none) and period in microseconds
_log = logging.getLogger(__name__)


def available_cpus(quota_file: Path = _QUOTA_FILE) -> int:
    """Return the container's CPU limit, or the machine's CPU count if there is none."""
    try:
        quota, period = quota_file.read_text().split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):  # no such file, or no limit
        return os.cpu_count() or 1


def map_cases(
    function: Callable[[Item], Result], cases: Sequence[Item], log_prefix: str, workers: int | None = None
) -> list[Result]:
    """Apply `function` to every case in parallel threads and return the results in the order of the cases.

    Threads suffice: decompression and array arithmetic release the GIL. Each worker holds one case at a time, which
    bounds memory. The first exception cancels the remaining cases.

    Args:
        function: processes one case.
        cases: the cases.
        log_prefix: start of the progress lines, as in `<log_prefix> 10/50 cases`.
        workers: number of threads; defaults to the available CPUs.
    """
    total, interval = len(cases), max(1, len(cases) // 10)
    results: list[Result] = []
    with ThreadPoolExecutor(workers or available_cpus()) as pool:
        try:
            for result in pool.map(function, cases):
                results.append(result)
                if len(results) % interval == 0 or len(results) == total:
                    _log.info("%s %d/%d cases", log_prefix, len(results), total)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return results
