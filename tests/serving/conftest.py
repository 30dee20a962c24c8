"""Version folders of the toy network, and real servers over them, on loopback."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
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
    """A model base with the versions 3 and 12, the newer one half as sure."""
    base = tmp_path_factory.mktemp("models")
    save_toy_model(base / "3")
    save_toy_model(base / "12", gain=0.5)
    return base


def served(base: Path, **settings) -> Iterator[str]:
    """Run a server of the toy model in this process; yield its gRPC address."""
    from serving.server.server import Server, Settings
    from serving.versions.model_config import ModelConfig

    running = Server(Settings(models=(ModelConfig(MODEL, str(base)),), port=0, **settings))
    yield running.address
    running.stop()


@pytest.fixture(scope="session")
def server(model_folder):
    """The address of a server in this process that answers in typed fields."""
    yield from served(model_folder)


@pytest.fixture(scope="session")
def content_server(model_folder):
    """The address of a server that answers in `tensor_content`."""
    yield from served(model_folder, tensor_content=True)


@contextmanager
def serving(*arguments: object) -> Iterator[tuple[subprocess.Popen, str]]:
    """Start a server by the command line on a free port; yield the process and its gRPC address."""
    process = subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        found = re.fullmatch(r"serving .* on (127\.0\.0\.1:\d+)\n", line)
        assert found, line + (process.stderr.read() if process.poll() is not None else "")
        yield process, found[1]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate()


@pytest.fixture
def server_process(model_folder) -> Iterator[tuple[subprocess.Popen, str]]:
    """A server of version 12 of the toy model in a process of its own, and its address."""
    with serving("--model-base", model_folder, "--model", MODEL) as started:
        yield started


@pytest.fixture
def scan(tmp_path) -> Path:
    """A scan in HU of 20×24×7 voxels, stored left to right and head first, with an oblique affine."""
    rng = np.random.default_rng(5)
    stored = rng.integers(-1000, 300, (20, 24, 7), np.int16)
    affine = np.diag([-0.8, 0.75, -2.5, 1])
    affine[:3, 3] = 12.5, -30.0, 81.0
    affine[1, 2] = 0.2
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(stored, affine), path)
    return path
