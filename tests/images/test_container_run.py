"""Builds of the images, and pipelines in them; needs a container engine."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.local.containers import unfinished_steps

ROOT = Path(__file__).parents[2]
# If both are installed, the engine that DOCKER_HOST points to.
ENGINES = ("podman", "docker") if "podman" in os.environ.get("DOCKER_HOST", "") else ("docker", "podman")
ENGINE = next(filter(shutil.which, ENGINES), None)
PARAMETERS = ("source=phantom:5", "epochs=1", "image_size=32", "min_dice=0.0", "max_false_positive_ml=1e6", "seed=3")
IMAGE = "localhost/lung-ct-python:test"


@pytest.fixture(scope="module")
def image():
    pytest.importorskip("docker", reason="kfp's DockerRunner needs the package docker")
    if ENGINE is None or not os.environ.get("DOCKER_HOST", Path("/var/run/docker.sock").exists()):
        pytest.skip("no container engine: DOCKER_HOST is unset and Docker's default socket does not exist")
    build = [ENGINE, "build", "-q", "-f", "images/Dockerfile", "--target", "cpu", "-t", IMAGE, "."]
    subprocess.run(build, cwd=ROOT, check=True)
    return IMAGE


def run_in_container(image: str, *command: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    run = [ENGINE, "run", "--rm", "--read-only", "--tmpfs", "/tmp", "--cap-drop=ALL", *options, image, *command]
    return subprocess.run(run, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_containers_and_subprocesses_give_the_same_numbers_and_a_version(image, tmp_path):
    summaries = {}
    for runner in ("docker", "subprocess"):
        command = [sys.executable, "-m", "pipelines.cli", "run", "--runner", runner, "--runs", tmp_path / runner]
        environment = os.environ | {"CPU_IMAGE": image}
        subprocess.run([*command, *PARAMETERS], check=True, cwd=ROOT, env=environment)
        summaries[runner] = json.loads((tmp_path / runner / "latest" / "summary.json").read_text())
        assert (Path(summaries[runner]["model_version_dir"]) / "saved_model.pb").is_file()
    docker, subprocesses = summaries["docker"], summaries["subprocess"]
    assert docker["test_dice"] == pytest.approx(subprocesses["test_dice"], abs=1e-6)
    assert docker["verdict"] == subprocesses["verdict"] == "pass"
    assert docker.keys() == subprocesses.keys()
    assert docker["seconds"].keys() == subprocesses["seconds"].keys()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_an_image_is_unprivileged_and_labeled(image):
    user = run_in_container(image, "python", "-c", "import os; print(os.getuid(), os.getgid()); open('/app/x', 'w')")
    assert user.stdout.split() == ["10001", "10001"]
    assert "Read-only file system" in user.stderr
    # The added layers contain no compiler, installer or cache.
    tools = run_in_container(image, "sh", "-c", "command -v gcc cc ld strip uv; ls -d ~root/.cache /build 2>/dev/null")
    assert tools.stdout == ""
    done = subprocess.run([ENGINE, "inspect", image], capture_output=True, text=True, check=True)
    (details,) = json.loads(done.stdout)
    labels = details["Config"]["Labels"]
    assert {f"org.opencontainers.image.{name}" for name in ("title", "source", "revision", "version")} <= labels.keys()


def run_to_failure(runs: Path, source: str, **environment: str) -> list[str]:
    """Run a failing pipeline in containers and return the lines on stderr."""
    command = [sys.executable, "-m", "pipelines.cli", "run", "--runner", "docker", "--runs", runs, f"source={source}"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert not (runs / "latest" / "summary.json").exists()
    return done.stderr.strip().splitlines()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_failing_container_fails_the_run_with_its_error(image, tmp_path):
    list_containers = [ENGINE, "ps", "--all", "--quiet"]
    before = subprocess.check_output(list_containers)
    for name in ("scans", "infection_masks"):
        (tmp_path / "cohort" / name).mkdir(parents=True)
    lines = run_to_failure(tmp_path / "runs", str(tmp_path / "cohort"), CPU_IMAGE=image)
    assert lines[-1].startswith("error: identify: ")
    assert subprocess.check_output(list_containers) == before


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_missing_image_is_an_error_in_one_line(image, tmp_path):
    (line,) = run_to_failure(tmp_path, "phantom:4", CPU_IMAGE="localhost/none:1")
    assert "localhost/none:1" in line
    assert "make images" in line


def test_an_unreachable_engine_is_an_error_in_one_line(tmp_path):
    address = f"unix://{tmp_path / 'none.sock'}"
    (line,) = run_to_failure(tmp_path, "phantom:4", DOCKER_HOST=address)
    assert line.startswith(f"error: container engine at {address}: ")


def test_a_step_without_a_result_is_unfinished(tmp_path):
    for name in ("ingest", "train"):
        (tmp_path / name).mkdir()
    (tmp_path / "ingest" / "executor_output.json").write_text("{}")
    assert unfinished_steps(tmp_path) == ["train"]
