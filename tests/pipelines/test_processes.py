"""Signals to real local runs: the steps and their children end, and the summary tells what happened."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def processes_of(run):
    """Command lines of living processes that name the run's folder."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended
        if str(run) in line:
            lines.append(line)
    return lines


SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL]


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_the_steps_end_with_the_run(number, tmp_path):
    runs, temporary = tmp_path / "runs", tmp_path / "tmp"
    temporary.mkdir()
    command = [sys.executable, "-m", "tests.pipelines.waiting_run", str(runs)]
    environment = os.environ | {"TMPDIR": str(temporary)}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        lines = []
        for line in run.stdout:
            lines.append(line)
            if line.strip() == "waiting":
                break
        else:
            pytest.fail("".join(lines))
        assert len(processes_of(runs)) >= 3  # the run, its step and the step's child
        run.send_signal(number)
        output = run.stdout.read()  # until the last process that holds the pipe ends
    deadline = time.monotonic() + 60
    while processes_of(runs) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_of(runs) == []
    if number == signal.SIGKILL:
        return
    assert run.returncode == 128 + number
    (folder,) = runs.iterdir()  # and no link to the newest complete run
    assert f"interrupted: no version was published; {folder} keeps" in output
    assert json.loads((folder / "summary.json").read_text())["status"] == "interrupted"
    assert list(temporary.iterdir()) == []
