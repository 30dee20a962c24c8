"""A tiny SavedModel with the exported model's signatures, and real servers over it, on loopback."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

SIZE = 16  # edge of the toy network's grid
THRESHOLD = 0.25
MODEL = "toy"
COMMAND = [sys.executable, "-m", "serving.cli"]


def toy_probability(slices_hu: np.ndarray) -> np.ndarray:
    """The toy network in numpy: 0 at -1250 HU, 1 at 250 HU, linear."""
    return np.clip((slices_hu.astype(np.float32) + 1250) / 1500, 0, 1)


def save_toy_model(folder: Path, size: int = SIZE, threshold: float = THRESHOLD, gain: float = 1.0) -> None:
    """Write a SavedModel whose probability is `gain` times that of `toy_probability`."""
    import tensorflow as tf

    class Toy(tf.Module):
        def answer(self, slices_hu):
            scaled = (tf.cast(slices_hu, tf.float32) + 1250.0) / 1500.0
            probability = gain * tf.clip_by_value(scaled, 0.0, 1.0)
            return {
                "lesion_probability": probability,
                "lesion_mask": tf.cast(probability >= threshold, tf.uint8),
                "threshold": tf.fill(tf.shape(slices_hu)[:1], threshold),
            }

    toy = Toy()
    signatures = {
        name: tf.function(toy.answer).get_concrete_function(tf.TensorSpec(shape, tf.int16, name="slices_hu"))
        for name, shape in {"network": (None, size, size), "serving_default": (None, None, None)}.items()
    }
    tf.saved_model.save(toy, str(folder), signatures=signatures)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    """A model base with the versions 3 and 12, the newer one half as sure."""
    base = tmp_path_factory.mktemp("models")
    save_toy_model(base / "3")
    save_toy_model(base / "12", gain=0.5)
    return base


@pytest.fixture(scope="session")
def server(model_folder):
    """The address of a server in this process that answers in typed fields."""
    from serving.server import start

    running = start(model_folder, MODEL, port=0)
    yield running.address
    running.stop()


@pytest.fixture(scope="session")
def content_server(model_folder):
    """The address of a server that answers in `tensor_content`."""
    from serving.server import start

    running = start(model_folder, MODEL, port=0, tensor_content=True)
    yield running.address
    running.stop()


@pytest.fixture
def server_process(model_folder) -> Iterator[tuple[subprocess.Popen, str]]:
    """A server started by the command line, and its address."""
    process = subprocess.Popen(
        [*COMMAND, "serve", "--model-base", str(model_folder), "--model", MODEL, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
    )
    try:
        line = process.stdout.readline()
        found = re.fullmatch(r"serving toy version 12 on (127\.0\.0\.1:\d+)\n", line)
        assert found, line + (process.stderr.read() if process.poll() is not None else "")
        yield process, found[1]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate()


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
