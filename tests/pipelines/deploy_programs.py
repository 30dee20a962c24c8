"""A container engine and a cluster for `deploy`: programs that record their calls, and fail or hang on demand."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.parameters import PIPELINES
from tests.pipelines.kfp_server import KfpServer, run_kfp_server
from tests.pipelines.test_cluster import compile_counting

KUBECTL = shutil.which("kubectl")

# Fail once, or hang, at the command named in a file.
_DISTURBED = """#!/bin/sh
if [ "$(cat {state}/fail 2>/dev/null)" = "$1" ]; then rm {state}/fail; echo "$1: reset" >&2; exit 1; fi
if [ "$(cat {state}/hang 2>/dev/null)" = "$1" ]; then mv {state}/hang {state}/hangs; exec sleep 120; fi
for last; do :; done
"""
# The engine: one file per image built or pushed.
_ENGINE = """
case $1 in
  build) while [ "$1" != -t ]; do shift; done; touch "{state}/built-$(echo $2 | tr / _)" ;;
  push) touch "{state}/pushed-$(echo $last | tr / _)" ;;
esac
"""
_CLUSTER = f'\nexec {sys.executable} {Path(__file__).with_name("kubectl_program.py")} {{state}} {{kubectl}} "$@"\n'


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the programs' records; the programs come first on the PATH."""
    folder, programs = tmp_path / "state", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    for name, text in {"docker": _ENGINE, "kubectl": _CLUSTER}.items():
        (programs / name).write_text((_DISTURBED + text).format(state=folder, kubectl=KUBECTL))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    return folder


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder with a package of each pipeline, as `compile` writes them."""
    folder = tmp_path / "build"
    folder.mkdir()
    for name in PIPELINES:
        compile_counting(folder / f"{name}.yaml", 5, name)
    return folder


@pytest.fixture
def api() -> Iterator[KfpServer]:
    with run_kfp_server() as server:
        yield server


def recorded_state(state: Path, api: KfpServer) -> tuple[dict[str, str], list[str], int]:
    """Results of a deploy: records of the engine and the cluster, pipeline versions, number of pipelines."""
    files = {path.name: path.read_text() for path in state.iterdir()}
    return files, [version["display_name"] for version in api.versions.values()], len(api.pipelines)
