"""The subcommands as a user types them, against the real HTTP server."""

import argparse

import pytest

from components.runtime.errors import InputError
from pipelines.cluster.commands import add_compile_options, add_to, compile_options
from tests.pipelines.kfp_server import running
from tests.pipelines.test_cluster import compiled


def parse(pipeline, words):
    return {name: int(value) for name, value in (word.split("=") for word in words)}


@pytest.fixture
def api(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    with running() as server:
        yield server


@pytest.fixture
def typed(api, tmp_path):
    """Type a command line."""
    package = compiled(tmp_path / "package.yaml", 5)

    def run(command, *words):
        parser = argparse.ArgumentParser()
        add_to(parser.add_subparsers(required=True), ["training"], parse)
        arguments = parser.parse_args([command, "--host", api.url, "--package", str(package), *words])
        arguments.do(arguments)

    return run


def test_submitting_with_wait_shows_progress_a_link_and_the_end(api, typed, capsys):
    train = {"task_id": "1", "display_name": "Train the U-Net"}
    api.states = [
        {"state": "RUNNING", "run_details": {"task_details": [train | {"state": "RUNNING"}]}},
        {"state": "SUCCEEDED", "run_details": {"task_details": [train | {"state": "SUCCEEDED"}]}},
    ]
    typed("submit", "cases=7", "--wait", "--poll", "0")
    link, running_line, done_line, end = capsys.readouterr().out.splitlines()
    assert link == f"run run-1: {api.url}/#/runs/details/run-1"
    assert running_line.split()[1:] == ["Train", "the", "U-Net", "running"]
    assert done_line.endswith("succeeded")
    assert end == "succeeded"
    assert api.runs["run-1"]["runtime_config"]["parameters"] == {"cases": 7}


def test_a_failed_run_fails_the_command_with_its_reason(api, typed):
    api.states = [{"state": "FAILED", "error": {"message": "train: out of memory"}}]
    with pytest.raises(InputError, match="ended FAILED: train: out of memory"):
        typed("submit", "--wait", "--poll", "0")


def test_words_on_the_command_line_stand_over_those_of_the_file(api, typed, tmp_path):
    words = tmp_path / "parameters"
    words.write_text("# a cohort of our own\ncases=3\nepochs=2\n\n")
    typed("submit", "cases=9", "--parameters-file", str(words))
    assert api.runs["run-1"]["runtime_config"]["parameters"] == {"cases": 9, "epochs": 2}


def test_uploading_twice_says_that_the_version_was_there(typed, capsys):
    typed("upload")
    typed("upload")
    first, again = capsys.readouterr().out.splitlines()
    assert first.endswith("uploaded")
    assert again.endswith("was there already")


def test_scheduling_needs_a_cron_and_keeps_it(api, typed):
    typed("schedule", "--cron", "0 0 3 * * 1")
    (kept,) = api.schedules.values()
    assert kept["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * 1"


def compile_options_of(*words):
    parser = argparse.ArgumentParser()
    add_compile_options(parser)
    return compile_options(parser.parse_args(words))


def test_compile_options_are_read_as_given():
    options = compile_options_of(
        "--gpus", "2", "--node-selector", "pool=gpu", "--model-claim", "m", "--cpu", "slice=16"
    )
    assert (options.gpus, options.node_selector, options.model_claim) == (2, {"pool": "gpu"}, "m")
    assert options.cpu == {"slice": "16"}


@pytest.mark.parametrize("words", [("--node-selector", "pool"), ("--cpu", "=4"), ("--memory", "slice=")])
def test_half_a_pair_is_refused(words):
    with pytest.raises(InputError, match=f"{words[0]} {words[1]}: expected words such as NAME=VALUE"):
        compile_options_of(*words)
