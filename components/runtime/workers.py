"""Work on the cases of a cohort in parallel, with a line of progress now and then."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # version 2 of Linux's control groups: microseconds in each period, or "max"


def available_cpus(quota_file: Path = _QUOTA) -> int:
    """How many processors this process may use: the container's limit where it has one, else the machine's.

    In a pod, the machine's number would set memory for the workers of a whole node.
    """
    try:
        quota, period = quota_file.read_text().split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):  # no such file, or no limit
        return os.cpu_count() or 1


def map_cases(
    function: Callable[[Item], Result], items: Sequence[Item], done: str, workers: int | None = None
) -> list[Result]:
    """Apply `function` to every item and return the results in the items' order.

    Threads suffice: decompression and array arithmetic leave the interpreter's lock. Each worker is in one item
    at a time, so that memory holds at most one volume for each. The first exception ends the work.

    Args:
        function: what to do with one item.
        items: the cases.
        done: what was done, for the progress lines: `<done> 10/50 cases`.
        workers: items in work at the same time; by default as many as there are processors.
    """
    total, every = len(items), max(1, len(items) // 10)
    results: list[Result] = []
    with ThreadPoolExecutor(workers or available_cpus()) as pool:
        try:
            for result in pool.map(function, items):
                results.append(result)
                if len(results) % every == 0 or len(results) == total:
                    print(f"{done} {len(results)}/{total} cases", flush=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return results
