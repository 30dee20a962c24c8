"""The commands in the guides are accepted by `lung-ct`, and their settings by the Makefile."""

import re
import shlex
from pathlib import Path

import pytest

from pipelines.cli import _parser

ROOT = Path(__file__).parents[2]
GUIDES = [ROOT / "docs" / name for name in ("operations.md", "serving.md")]


def shell_lines(guide):
    """Lines of a guide's shell blocks, continued lines joined, without comments."""
    for block in re.findall(r"```sh\n(.*?)```", guide.read_text(), flags=re.DOTALL):
        yield from re.sub(r"\s+# .*", "", block.replace("\\\n", " "), flags=re.MULTILINE).splitlines()


def commands(guide):
    label = ""  # a shell function of the guide: its arguments are inserted into its body
    for line in shell_lines(guide):
        if body := re.fullmatch(r"label\(\) { (.*); }", line):
            label = body[1]
        elif line.startswith("label "):
            yield label.replace('"$@"', line.removeprefix("label "))
        elif re.match(r"(\.venv/bin/)?lung-ct ", line):
            yield line


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_every_command_parses(guide):
    found = list(commands(guide))
    assert len(found) > 5
    for command in found:
        words = shlex.split(command.rstrip(" &").replace("$BASE", "models/lung-infection"))
        _parser().parse_args(words[1:])  # exits with an unknown option or subcommand


def test_the_settings_of_make_exist():
    makefile = (ROOT / "Makefile").read_text()
    text = GUIDES[0].read_text()
    lines = [line for line in shell_lines(GUIDES[0]) if line.startswith(("make ", "set -- "))]
    settings = {name for line in lines for name in re.findall(r"\b([A-Z_]{3,})=", line)}
    settings |= set(re.findall(r"`([A-Z_]{3,}_(?:CLAIM|SECRET|FILE|USERNAME))(?:=\w+)?`", text))
    assert len(settings) > 10
    known = " ".join(re.findall(r"^(?:PARAMETERS|SETTINGS) := ((?:.*\\\n)*.*)", makefile, re.MULTILINE))
    assert settings - set(known.split()) == set()
