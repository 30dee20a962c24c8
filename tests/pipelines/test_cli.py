"""The `lung-ct` command, its parameters and the packages that it compiles."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import yaml
from kfp import components

from components.runtime.errors import InputError
from pipelines import PipelineName
from pipelines.cli import main
from pipelines.local.runs import run_pipeline
from pipelines.parameters import PIPELINES, find_components, parse_parameters
from tests.reference_pages import generate_pages

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    folder = tmp_path_factory.mktemp("build")
    main(["compile", "-o", str(folder)])
    return folder


def test_arguments_become_typed_parameters():
    arguments = ["SOURCE=phantom:6", "epochs=3", "MIN_DICE=0.25", "require_gpu=true", "hard_cases=a, b"]
    arguments.append('CHANGES={"learning_rate": 0.001}')
    assert parse_parameters("training", arguments) == {
        "source": "phantom:6",
        "epochs": 3,
        "min_dice": 0.25,
        "require_gpu": True,
        "hard_cases": ["a", "b"],
        "changes": {"learning_rate": 0.001},
    }


def test_unknown_parameters_are_all_named_with_the_known_ones():
    with pytest.raises(InputError) as error:
        parse_parameters("training", ["EPOCH=3", "epochs", "=3"])
    assert [str(line).partition(": unknown parameter of training")[0] for line in error.value.args] == [
        "EPOCH=3",
        "epochs",
        "=3",
    ]
    assert all("min_dice" in line for line in error.value.args)


def test_a_run_reports_every_invalid_parameter_on_a_line_and_starts_nothing(tmp_path):
    (tmp_path / "file").touch()
    wrong = {
        "EPOCHS": "many",
        "BATCH_SIZE": "1.5",
        "MIN_DICE": "nan",
        "MAX_REGRESSION": "2",
        "REQUIRE_GPU": "perhaps",
        "CHANGES": "[1]",
        "PRESET": "foo",
        "SEED": "4294967296",
        "SIGNING_KEY_FILE": "missing.pem",
        "MODEL_BASE": "file/models",
    }
    command = [sys.executable, "-m", "pipelines.cli", "run", *(f"{name}={value}" for name, value in wrong.items())]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    assert sorted(line.removeprefix("error: ").split()[0].rstrip(":") for line in lines) == sorted(
        map(str.lower, wrong)
    )
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_run_expands_the_home_folder_as_shells_do(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").touch()
    with pytest.raises(InputError) as error:
        run_pipeline("training", tmp_path / "runs", {"model_base": "~/models", "cache": "~nobody-here/x"})
    base, cache = sorted(error.value.args, reverse=True)
    assert base.startswith(f"model_base: {tmp_path / 'models'}: cannot be written (not a folder)")
    assert "starts with ~" in cache
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


@pytest.mark.parametrize("word", ["MIN_DICE=2", "EPOCHS=1.5", "MODEL_BASE=~/x", "MODEL_NAME=../x"])
def test_a_run_with_an_invalid_value_is_not_submitted(word):
    with pytest.raises(SystemExit, match=f"error: {word.partition('=')[0].lower()}"):
        main(["submit", "--host", "http://127.0.0.1:9", "MODEL_BASE=gs://bucket/models", word])


def test_every_pipeline_name_has_a_pipeline():
    assert tuple(PIPELINES) == get_args(PipelineName)


def test_the_reference_pages_are_up_to_date():
    stale = [str(path) for path, text in generate_pages().items() if not path.is_file() or path.read_text() != text]
    assert stale == [], "run `make docs`"


@pytest.mark.parametrize("name", find_components())
def test_a_component_package_has_the_interface_of_its_component(name, build):
    loaded = components.load_component_from_file(str(build / "components" / f"{name}.yaml")).component_spec
    expected = find_components()[name].component_spec
    assert interface(loaded.inputs) == interface(expected.inputs)
    assert interface(loaded.outputs) == interface(expected.outputs)


def interface(specs):
    """Names and types; a package has List for Python's List[String]."""
    types = {name: spec.type.removeprefix("typing.").partition("[")[0] for name, spec in (specs or {}).items()}
    return {name: (kind, specs[name].is_artifact_list) for name, kind in types.items()}


@pytest.mark.parametrize("name", find_components())
def test_a_component_has_metadata_and_describes_its_inputs_and_outputs(name):
    metadata = yaml.safe_load((ROOT / "components" / name / "metadata.yaml").read_text())
    assert metadata.keys() == {"name", "stability", "dependencies", "tags", "lastVerified"}
    assert metadata["name"] == name
    page = generate_pages()[ROOT / "components" / name / "README.md"]
    assert not re.search(r"\|  \|$", page, re.MULTILINE)


def test_the_gate_has_two_named_branches(build):
    package = next(yaml.safe_load_all((build / "training.yaml").read_text()))
    tasks = package["root"]["dag"]["tasks"]
    if_group = next(name for name in tasks if name.startswith("condition-branches"))
    branches = package["components"][tasks[if_group]["componentRef"]["name"]]["dag"]["tasks"]
    conditions = {task["taskInfo"]["name"]: task["triggerPolicy"]["condition"] for task in branches.values()}
    assert conditions.keys() == {"Gate passed", "Gate failed"}
    assert all("verdict'] == 'pass'" in condition for condition in conditions.values())
    assert [name for name, condition in conditions.items() if condition.startswith("!(")] == ["Gate failed"]


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_the_package_describes_the_pipeline_and_every_parameter(pipeline, build):
    package = next(yaml.safe_load_all((build / f"{pipeline}.yaml").read_text()))
    assert package["pipelineInfo"]["description"]
    parameters = package["root"]["inputDefinitions"]["parameters"]
    assert [name for name, spec in parameters.items() if not spec.get("description")] == []


def test_an_input_error_exits_with_one_line(tmp_path):
    command = [sys.executable, "-m", "pipelines.cli", "run", "--runs", str(tmp_path), "source"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: source: ")


def test_help_imports_no_heavy_library():
    code = "import sys, pipelines.cli as c\ntry: c.main(['submit', '-h'])\nexcept SystemExit: pass\n"
    heavy = {"kfp", "tensorflow", "pandas", "yaml", "grpc", "google.cloud.storage", "numpy"}
    code += f"sys.exit(bool({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


def test_an_interrupt_exits_with_130(monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.cluster.runs.package_version", interrupt)
    with pytest.raises(SystemExit) as exit_:
        main(["upload"])
    assert exit_.value.code == 130
