"""Version folders of the toy network, and servers of them on loopback."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.serving.toy import MODEL, save_toy_model
from tests.storage.gcs_server import gcs, gcs_server  # noqa: F401 (fixtures)

COMMAND = [sys.executable, "-m", "pipelines.cli"]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    """A model base with the versions 3 and 12; version 12 returns half the probability."""
    base = tmp_path_factory.mktemp("models")
    save_toy_model(base / "3")
    save_toy_model(base / "12", gain=0.5)
    return base


def serve_in_process(base: Path, **settings) -> Iterator[str]:
    """Run a server of the toy model in this process; yield its gRPC address."""
    from serving.server.server import Server, Settings
    from serving.versions.model_config import ModelConfig

    server = Server(Settings(models=(ModelConfig(MODEL, str(base)),), port=0, **settings))
    yield server.address
    server.stop()


@pytest.fixture(scope="session")
def server(model_folder):
    """The address of a server that returns typed fields."""
    yield from serve_in_process(model_folder)


@pytest.fixture(scope="session")
def content_server(model_folder):
    """The address of a server that returns `tensor_content`."""
    yield from serve_in_process(model_folder, tensor_content=True)


@contextmanager
def run_serve(*options: object) -> Iterator[tuple[subprocess.Popen, str]]:
    """Run `lung-ct serve` on a free port; yield the process and its gRPC address."""
    command = [*COMMAND, "serve", "--port", "0", *map(str, options)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        ready = re.fullmatch(r"serving .* on (127\.0\.0\.1:\d+)\n", line)
        assert ready, line + (process.stderr.read() if process.poll() is not None else "")
        yield process, ready[1]
    finally:
        process.kill()
        process.communicate()


def wait_until(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def scan(tmp_path) -> Path:
    """A scan in HU of 20×24×7 voxels, stored left to right and head first, with an oblique affine."""
    rng = np.random.default_rng(5)
    stored = rng.integers(-1000, 300, (20, 24, 7), np.int16)
    affine = np.diag([-0.8, 0.75, -2.5, 1])
    affine[:3, 3] = 12.5, -30.0, 81.0
    turn = np.array([[np.cos(0.08), -np.sin(0.08)], [np.sin(0.08), np.cos(0.08)]])
    affine[1:3, 1:3] = turn @ affine[1:3, 1:3]
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(stored, affine), path)
    return path
