"""The images are built and the pipeline runs in them, where a container engine is at hand."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.containers import unfinished

ROOT = Path(__file__).parents[2]
ENGINE = next(filter(shutil.which, ("docker", "podman")), None)
PARAMETERS = {"source": "phantom:5", "epochs": 1, "image_size": 32, "min_dice": 0.0}
# docker keeps a short name, podman puts its own registry before it; kfp looks for the exact one.
IMAGE = {"docker": "lung-ct-python:test", "podman": "localhost/lung-ct-python:test", None: ""}[ENGINE]

RUN = """
import json, sys
from pathlib import Path
from kfp import local
from pipelines.containers import container_runner
from pipelines.training import training
root, models, runner = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
root.mkdir()
chosen = container_runner(writable=[models]) if runner == "docker" else local.SubprocessRunner(use_venv=False)
local.init(chosen, pipeline_root=str(root))
training(model_base=str(models / "lung-infection"), **json.loads(sys.argv[4]))
"""


@pytest.fixture(scope="module")
def image():
    pytest.importorskip("docker", reason="the package docker is not installed, which kfp's DockerRunner needs")
    if ENGINE is None or not os.environ.get("DOCKER_HOST", Path("/var/run/docker.sock").exists()):
        pytest.skip("no container engine answers: neither DOCKER_HOST nor Docker's own socket is there")
    build = [ENGINE, "build", "-q", "-f", "images/Dockerfile", "--target", "cpu", "-t", IMAGE, "."]
    subprocess.run(build, cwd=ROOT, check=True)
    return IMAGE


def run(folder: Path, runner: str, image: str) -> Path:
    """Run the pipeline; give the folder of its steps."""
    command = [sys.executable, "-c", RUN, folder / "artifacts", folder / "models", runner, json.dumps(PARAMETERS)]
    environment = os.environ | {"CPU_IMAGE": image, "TRAIN_IMAGE": image}
    subprocess.run(command, check=True, cwd=ROOT, env=environment)
    (steps,) = (folder / "artifacts").iterdir()
    return steps


def dice(steps: Path) -> float:
    return json.loads((steps / "evaluate" / "evaluation" / "verdict.json").read_text())["test_dice"]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_containers_and_subprocesses_give_the_same_dice_and_a_version(image, tmp_path):
    folders = {runner: tmp_path / runner for runner in ("docker", "subprocess")}
    for folder in folders.values():
        folder.mkdir()
    steps = {runner: run(folder, runner, image) for runner, folder in folders.items()}
    assert {runner: unfinished(folder) for runner, folder in steps.items()} == {"docker": [], "subprocess": []}
    assert dice(steps["docker"]) == pytest.approx(dice(steps["subprocess"]), abs=1e-6)
    assert (folders["docker"] / "models" / "lung-infection" / "1" / "saved_model.pb").is_file()


def test_a_step_without_a_result_is_unfinished_whatever_the_runner_says(tmp_path):
    for name in ("ingest", "train"):
        (tmp_path / name).mkdir()
    (tmp_path / "ingest" / "executor_output.json").write_text("{}")
    assert unfinished(tmp_path) == ["train"]
