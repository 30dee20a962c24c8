"""`lung-ct upload`, `submit` and `schedule` against a real HTTP server, and the cluster options of `compile`."""

import argparse

import pytest

from components.runtime.errors import InputError
from pipelines.cli import main
from pipelines.cluster.commands import add_compile_options, compile_options
from tests.pipelines.argo_workflow import ROOT, Workflow
from tests.pipelines.test_cluster import compile_counting


@pytest.fixture
def lung_ct(api, monkeypatch, tmp_path):
    """A function that runs a subcommand on the package of a small pipeline."""
    monkeypatch.setenv("HOME", str(tmp_path))
    package = compile_counting(tmp_path / "package.yaml", 5)
    return lambda command, *arguments: main([command, "--host", api.url, "--package", str(package), *arguments])


def test_submit_with_wait_prints_the_link_the_steps_and_the_end(api, lung_ct, capsys):
    workflow = Workflow()
    workflow.step(f"{ROOT}.root.count", "Running", "Running")
    running = workflow.run("RUNNING")
    workflow.step(f"{ROOT}.root.count", "Succeeded", "Succeeded")
    api.states = [running, running, workflow.run("SUCCEEDED")]
    lung_ct("submit", "epochs=7", "--wait", "--poll", "0")
    link, running_line, done_line, end = capsys.readouterr().out.splitlines()
    assert link == f"run run-1: {api.url}/#/runs/details/run-1"
    assert running_line.split()[1:] == ["count", "running"]
    assert done_line.split()[1:] == ["count", "succeeded"]
    assert end == "succeeded"
    assert api.runs["run-1"]["runtime_config"]["parameters"] == {"epochs": 7}


def test_a_failed_run_exits_with_its_reason(api, lung_ct):
    api.states = [{"state": "FAILED", "error": {"message": "train: out of memory"}}]
    with pytest.raises(SystemExit, match=r"error: run run-1 .*FAILED: train: out of memory"):
        lung_ct("submit", "--wait", "--poll", "0")


def test_the_command_line_precedes_the_parameters_file(api, lung_ct, tmp_path):
    file = tmp_path / "parameters"
    file.write_text("# cohort of site B\nimage_size=256\nepochs=2\n\n")
    lung_ct("submit", "image_size=128", "--parameters-file", str(file))
    assert api.runs["run-1"]["runtime_config"]["parameters"] == {"image_size": 128, "epochs": 2}


def test_a_second_upload_reports_the_existing_version(lung_ct, capsys):
    lung_ct("upload")
    lung_ct("upload")
    first, again = capsys.readouterr().out.splitlines()
    assert first.endswith(": uploaded")
    assert again.endswith(": already uploaded")


def test_a_schedule_keeps_its_cron_expression(api, lung_ct):
    lung_ct("schedule", "--cron", "0 0 3 * * 1")
    (schedule,) = api.schedules.values()
    assert schedule["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * 1"


def test_a_schedule_of_the_same_name_in_another_experiment_is_noted(lung_ct, capsys):
    for experiment in ("pilot", "lung", "lung"):
        lung_ct("schedule", "--cron", "0 0 3 * * 1", "--name", "weekly", "--experiment", experiment)
    *_, created, note = capsys.readouterr().out.splitlines()
    assert created.endswith("'weekly' in experiment 'lung', in place of 1 of this name")
    assert "'pilot'" in note


def parse_compile_options(*arguments):
    parser = argparse.ArgumentParser()
    add_compile_options(parser)
    return compile_options(parser.parse_args(arguments))


def test_compile_options_are_parsed():
    arguments = ["--gpus", "2", "--node-selector", "pool=gpu", "--model-claim", "m", "--cpu", "slice=16", "--no-cache"]
    options = parse_compile_options(*arguments)
    assert (options.gpus, options.node_selector, options.model_claim) == (2, {"pool": "gpu"}, "m")
    assert (options.cpu, options.caching) == ({"slice": "16"}, False)


@pytest.mark.parametrize(
    "arguments", [("--node-selector", "pool"), ("--cpu", "=4"), ("--memory", "slice="), ("--gpus", "-1")]
)
def test_an_invalid_compile_option_is_an_error(arguments):
    with pytest.raises(InputError, match=f"{arguments[0]} (is )?{arguments[1]}.*expected"):
        parse_compile_options(*arguments)
