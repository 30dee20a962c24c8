"""The worker pool."""

import os
import time

import pytest

from components.runtime.workers import available_cpus, map_cases


@pytest.mark.parametrize(("quota", "cpus"), [("150000 100000", 1), ("400000 100000", 4), ("50000 100000", 1)])
def test_a_container_limit_sets_the_number_of_workers(tmp_path, quota, cpus):
    (tmp_path / "cpu.max").write_text(quota + "\n")
    assert available_cpus(tmp_path / "cpu.max") == cpus


def test_without_a_limit_every_processor_works(tmp_path):
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert available_cpus(tmp_path / "cpu.max") == available_cpus(tmp_path / "none") == os.cpu_count()


def test_results_are_in_the_order_of_the_cases(caplog):
    assert map_cases(lambda n: n * n, range(20), "squared", workers=4) == [n * n for n in range(20)]
    assert caplog.messages[-1] == "squared 20/20 cases"


def test_the_first_failure_cancels_the_remaining_cases():
    started = []

    def work(n):
        started.append(n)
        time.sleep(0.002)
        if n == 1:
            raise ValueError("case 1")

    with pytest.raises(ValueError, match="case 1"):
        map_cases(work, range(1000), "worked", workers=1)
    assert len(started) < 1000
