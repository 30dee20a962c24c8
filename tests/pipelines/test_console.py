"""Console output of real pipelines in kfp's local runner."""

import builtins
import contextlib
import os
import sys

import pytest
from kfp import dsl, local

from pipelines.local.console import capture_output


@dsl.component(base_image="python", install_kfp_package=False)
def measure(numbers: dsl.Output[dsl.Dataset]) -> str:
    from pathlib import Path

    Path(numbers.path).write_text("1")
    print("epoch 1/2 {loss: 0.5}")
    return "fail"


@dsl.component(base_image="python", install_kfp_package=False)
def stop(numbers: dsl.Input[dsl.Dataset]) -> None:
    import sys

    sys.exit("error: case_7: scan.nii.gz is truncated; fetch it again")


@dsl.component(base_image="python", install_kfp_package=False)
def publish(numbers: dsl.Input[dsl.Dataset]) -> None:
    print("published")


@dsl.pipeline
def branch_pipeline(then_stop: bool = False):
    measured = measure()
    with dsl.If(measured.outputs["Output"] == "pass"):
        publish(numbers=measured.outputs["numbers"])
    with dsl.Else(), dsl.If(then_stop == True):  # noqa: E712 - kfp compiles the comparison
        stop(numbers=measured.outputs["numbers"])


def test_a_run_shows_steps_and_their_lines_and_logs_everything(tmp_path, capsys):
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"))
    with capture_output(tmp_path / "run.log", seconds := {}) as steps:
        branch_pipeline(then_stop=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["── measure", "    epoch 1/2 {loss: 0.5}"]
    assert lines[2].startswith("   measure took ")
    assert len(lines) == 3
    assert list(seconds) == ["measure"]
    assert steps.failure is None
    assert "Got executor_input" in (tmp_path / "run.log").read_text()


def test_a_failed_step_is_reported_by_name_and_error(tmp_path, capsys):
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"))
    with capture_output(tmp_path / "run.log", {}) as steps, pytest.raises(RuntimeError, match="stop"):
        branch_pipeline(then_stop=True)
    assert steps.failure == ("stop", "case_7: scan.nii.gz is truncated; fetch it again")
    assert "Traceback" not in capsys.readouterr().out


def test_a_run_goes_on_when_the_reader_of_its_output_is_gone(tmp_path, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"))
        with capture_output(tmp_path / "run.log", seconds := {}):
            branch_pipeline(then_stop=False)
        with contextlib.suppress(BrokenPipeError):
            terminal.close()
    assert list(seconds) == ["measure"]


@dsl.component(base_image="python", install_kfp_package=False)
def wait(seconds: float) -> None:
    import time

    print("waiting", flush=True)
    time.sleep(seconds)


@dsl.pipeline
def loop_pipeline():
    with dsl.ParallelFor([0.5, 1.0, 1.5], parallelism=2) as seconds:
        wait(seconds=seconds)


def test_a_loop_shows_the_lines_and_the_total_time_of_its_iterations(tmp_path, capsys):
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"))
    before = builtins.print
    with capture_output(tmp_path / "run.log", seconds := {}):
        loop_pipeline()
    assert builtins.print is before
    lines = capsys.readouterr().out.splitlines()
    took = [float(line.split()[-2]) for line in lines if "took" in line]
    assert len(took) == 3
    assert min(took) >= 0.5
    assert seconds["wait"] == pytest.approx(sum(took), abs=0.2)
    assert seconds["wait"] >= 3
    assert lines.count("    waiting") == 3


@dsl.component(base_image="python", install_kfp_package=False)
def fail_first(seconds: float) -> None:
    import sys
    import time

    time.sleep(seconds)
    if seconds == 0:
        sys.stdout.write("error: the first fails")  # without a newline
        sys.exit(1)


@dsl.pipeline
def failing_loop_pipeline():
    with dsl.ParallelFor([0.0, 3.0], parallelism=2) as seconds:
        fail_first(seconds=seconds).after(wait(seconds=seconds))


def test_the_failed_step_of_a_loop_is_named_not_the_last_started(tmp_path):
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"))
    with capture_output(tmp_path / "run.log", {}) as steps, pytest.raises(RuntimeError):
        failing_loop_pipeline()
    assert steps.failure == ("fail-first", "the first fails")
