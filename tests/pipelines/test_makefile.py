"""How `make` passes settings on: from the command line alone, literally, and none that is unknown."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from pipelines.parameters import PIPELINES

ROOT = Path(__file__).parents[2]


def dry_run(target, *settings, **environment):
    """The words of the last command that `make` would run."""
    command = ["make", "-n", "-C", str(ROOT), target, *settings]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    if done.returncode:
        raise ValueError(done.stderr)
    return shlex.split([line for line in done.stdout.splitlines() if "lung-ct" in line][-1])[1:]


def test_every_parameter_of_every_pipeline_can_be_set():
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    names = re.search(r"^PARAMETERS := (.*)$", makefile, re.MULTILINE)[1]
    inputs = {name for pipeline in PIPELINES.values() for name in pipeline.component_spec.inputs}
    assert sorted(names.lower().split()) == sorted(inputs)


def test_variables_of_the_environment_have_no_effect():
    # Common in shells (zsh sets HOST), CI systems and scripts.
    environment = {"MODEL": "foo", "LABEL": "prod", "SOURCE": "src", "HOST": "build-7", "EPOCHS": "9", "CACHE": "/c"}
    assert dry_run("run", **environment) == ["run", "EPOCHS=15"]
    assert "--host" not in dry_run("doctor", **environment)
    assert dry_run("run", "SOURCE=scans", **environment) == ["run", "SOURCE=scans"]


@pytest.mark.parametrize("value", ["it's here", 'a "b" c', "$HOME/x y", "a,b;c&d", "#1", "ä\\n", "$(shell echo x)"])
def test_a_value_reaches_the_command_literally(value):
    assert dry_run("predict", f"SOURCE={value}", "PARTS=2")[3:] == [f"SOURCE={value}", "PARTS=2"]
    assert dry_run("doctor", f"NAMESPACE={value}")[-2:] == ["--namespace", value]


@pytest.mark.parametrize("setting", ["SOURCE=", "MODEL_BASE=a\nb"])
def test_an_empty_value_is_refused(setting):
    name = setting.partition("=")[0]  # of an unset shell variable, perhaps: the default would train on other scans
    with pytest.raises(ValueError, match=rf"\*\*\* {name}: expected one line of text"):
        dry_run("run", setting)


@pytest.mark.parametrize("setting", ["EPOCH=3", "epochs=3", "MODEL_BASES=x"])
def test_an_unknown_setting_is_refused(setting):
    name = setting.partition("=")[0]
    with pytest.raises(ValueError, match=rf"\*\*\* {name}: unknown setting; .*parameters\.md"):
        dry_run("run", setting)
