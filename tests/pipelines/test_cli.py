"""The command line of the pipelines."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from components.ct.errors import InputError
from pipelines.cli import main, parse_parameters
from pipelines.training import training

ROOT = Path(__file__).parents[2]


def test_words_become_the_pipelines_typed_parameters():
    given = ["SOURCE=phantom:6", "epochs=3", "MIN_DICE=0.25"]
    assert parse_parameters(given) == {"source": "phantom:6", "epochs": 3, "min_dice": 0.25}


@pytest.mark.parametrize("word", ["EPOCH=3", "epochs", "=3"])
def test_an_unknown_parameter_is_answered_with_the_known_ones(word):
    with pytest.raises(InputError, match=r"no such parameter; expected NAME=VALUE with one of .*min_dice"):
        parse_parameters([word])


def test_a_value_of_another_type_is_refused():
    with pytest.raises(InputError, match="epochs is 'many'; expected int"):
        parse_parameters(["EPOCHS=many"])


def test_make_run_passes_on_every_parameter_of_the_pipeline():
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    names = re.search(r"^PARAMETERS := (.*)$", makefile, re.MULTILINE)
    assert names is not None
    assert sorted(names[1].lower().split()) == sorted(training.component_spec.inputs)


def test_the_compiled_package_has_the_gate_with_both_its_sides(tmp_path):
    main(["compile", "-o", str(tmp_path)])
    package = yaml.safe_load((tmp_path / "training.yaml").read_text())
    tasks = package["root"]["dag"]["tasks"]
    if_group = next(name for name in tasks if name.startswith("condition-branches"))
    branches = package["components"][tasks[if_group]["componentRef"]["name"]]["dag"]["tasks"]
    conditions = sorted(task["triggerPolicy"]["condition"] for task in branches.values())
    assert len(conditions) == 2
    assert all("verdict'] == 'pass'" in condition for condition in conditions)
    assert sum(condition.startswith("!(") for condition in conditions) == 1


def test_every_parameter_is_explained_in_the_package(tmp_path):
    main(["compile", "-o", str(tmp_path)])
    package = yaml.safe_load((tmp_path / "training.yaml").read_text())
    parameters = package["root"]["inputDefinitions"]["parameters"]
    assert [name for name, spec in parameters.items() if not spec.get("description")] == []


def test_a_mistake_ends_in_one_line_and_a_failing_status(tmp_path):
    command = [sys.executable, "-m", "pipelines.cli", "local", "--runs", str(tmp_path), "source"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("error: source: no such parameter")
