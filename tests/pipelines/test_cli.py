"""The command line of the pipelines."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from components.runtime.errors import InputError
from pipelines.cli import main
from pipelines.parameters import PIPELINES, parse_parameters

ROOT = Path(__file__).parents[2]


def test_words_become_the_pipelines_typed_parameters():
    given = ["SOURCE=phantom:6", "epochs=3", "MIN_DICE=0.25", "require_gpu=true", "hard_cases=a, b"]
    given.append('CHANGES={"learning_rate": 0.001}')
    assert parse_parameters("training", given) == {
        "source": "phantom:6",
        "epochs": 3,
        "min_dice": 0.25,
        "require_gpu": True,
        "hard_cases": ["a", "b"],
        "changes": {"learning_rate": 0.001},
    }


@pytest.mark.parametrize("word", ["EPOCH=3", "epochs", "=3"])
def test_an_unknown_parameter_is_answered_with_the_known_ones(word):
    with pytest.raises(InputError, match=r"no such parameter of training; expected NAME=VALUE with one of .*min_dice"):
        parse_parameters("training", [word])


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("EPOCHS=many", "a whole number"),
        ("MIN_DICE=high", "a number"),
        ("REQUIRE_GPU=perhaps", "true or false"),
        ("CHANGES=[1]", "JSON such as"),
    ],
)
def test_a_value_of_another_type_is_refused(word, expected):
    with pytest.raises(InputError, match=f"{word.lower().partition('=')[0]} is '.*'; expected {expected}"):
        parse_parameters("training", [word])


def test_make_passes_on_every_parameter_of_every_pipeline():
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    names = re.search(r"^PARAMETERS := (.*)$", makefile, re.MULTILINE)
    assert names is not None
    inputs = {name for pipeline in PIPELINES.values() for name in pipeline.component_spec.inputs}
    assert sorted(names[1].lower().split()) == sorted(inputs)


def test_readme_tells_every_parameter_of_the_training_pipeline_with_its_default():
    told = re.findall(r"^\| `([A-Z0-9_]+)` \| (.*?) *\|", (ROOT / "README.md").read_text(), re.MULTILINE)
    inputs = PIPELINES["training"].component_spec.inputs
    assert dict(told) == {name.upper(): _as_told(name, spec.default) for name, spec in inputs.items()}


def _as_told(name, default):
    if name == "model_base":  # the one without a default: on one machine it lies in the run's folder
        return "a folder of the run"
    typed = default if isinstance(default, str) else json.dumps(default)
    return f"`{typed}`" if typed not in ("", "[]", "{}") else ""


def test_the_compiled_package_has_the_gate_with_both_its_sides(tmp_path):
    main(["compile", "-o", str(tmp_path)])
    package = next(yaml.safe_load_all((tmp_path / "training.yaml").read_text()))
    tasks = package["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    if_group = next(name for name in tasks if name.startswith("condition-branches"))
    branches = package["components"][tasks[if_group]["componentRef"]["name"]]["dag"]["tasks"]
    conditions = sorted(task["triggerPolicy"]["condition"] for task in branches.values())
    assert len(conditions) == 2
    assert all("verdict'] == 'pass'" in condition for condition in conditions)
    assert sum(condition.startswith("!(") for condition in conditions) == 1


def test_every_parameter_is_explained_in_the_package(tmp_path):
    main(["compile", "-o", str(tmp_path)])
    for pipeline in PIPELINES:
        package = next(yaml.safe_load_all((tmp_path / f"{pipeline}.yaml").read_text()))
        parameters = package["root"]["inputDefinitions"]["parameters"]
        assert [name for name, spec in parameters.items() if not spec.get("description")] == []


def test_a_mistake_ends_in_one_line_and_a_failing_status(tmp_path):
    command = [sys.executable, "-m", "pipelines.cli", "local", "--runs", str(tmp_path), "source"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("error: source: no such parameter of training")
