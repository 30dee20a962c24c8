"""Devices: the precision of each, and runs on two devices or two pods (two processes)."""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from components.runtime.errors import InputError
from components.train import MODEL_FILE
from components.train.devices import gpu_policy, is_chief, mixed_precision_policy, select_strategy
from components.train.training import train
from tests.train.worker_process import TINY

PROCESS = [sys.executable, "-m", "tests.train.worker_process"]


@pytest.mark.parametrize(
    ("flags", "policy"),
    [
        ("fpu avx2 avx512f avx512_bf16", "mixed_bfloat16"),
        ("fpu avx2 amx_bf16 amx_tile", "mixed_bfloat16"),
        ("fpu avx2 avx512f", "float32"),
    ],
)
def test_a_cpu_trains_in_bfloat16_if_it_supports_it(tmp_path, flags, policy):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\nprocessor\t: 1\nflags\t\t: {flags}\n")
    assert mixed_precision_policy(tmp_path / "cpuinfo") == policy


def test_an_unknown_cpu_trains_in_float32(tmp_path):
    assert mixed_precision_policy(tmp_path / "absent") == "float32"


@pytest.mark.parametrize(
    ("capability", "policy"),
    [((9, 0), "mixed_bfloat16"), ((8, 0), "mixed_bfloat16"), ((7, 5), "mixed_float16"), ((6, 1), "float32")],
)
def test_a_gpu_trains_in_the_format_of_its_generation(capability, policy):
    assert gpu_policy(capability) == policy


@pytest.fixture(scope="module")
def single_process_history(shards, tmp_path_factory):
    """The history of the same run in one process."""
    return train(shards, tmp_path_factory.mktemp("single"), recipe=TINY, seed=1).history


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def start_pods(shards: Path, folder: Path) -> list[subprocess.Popen]:
    """Start two workers as a Kubeflow training job does, with separate outputs and shared checkpoints."""
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    pods = []
    for index in range(2):
        task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        command = [*PROCESS, str(shards), str(folder / f"pod_{index}"), str(folder / "volume")]
        environment = {**os.environ, "TF_CONFIG": json.dumps(task)}
        pods.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        )
    return pods


def wait_for(pods: list[subprocess.Popen]) -> list[str]:
    """Wait for all pods to succeed, and return their outputs."""
    try:
        outputs = [pod.communicate(timeout=200)[0] for pod in pods]
    finally:
        for pod in pods:
            pod.kill()
    assert [pod.returncode for pod in pods] == [0, 0]
    return outputs


def last_record(output: str) -> dict:
    return json.loads(output.splitlines()[-1])


def assert_close(history: dict, expected: dict) -> None:
    """Batch normalization uses the statistics of each replica's share, so histories differ slightly."""
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=0.05)
    np.testing.assert_allclose(history["dice"], expected["dice"], atol=0.05)


def test_two_devices_learn_like_one(shards, single_process_history, tmp_path):
    command = [*PROCESS, str(shards), str(tmp_path / "model"), str(tmp_path / "checkpoints"), "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "2 devices share each batch" in done.stdout
    assert_close(last_record(done.stdout)["history"], single_process_history)
    assert (tmp_path / "model" / MODEL_FILE).exists()


@pytest.mark.slow
def test_two_killed_pods_resume_and_learn_like_one_process(shards, single_process_history, tmp_path):
    pods = start_pods(shards, tmp_path)
    next(line for line in pods[0].stdout if line.startswith("epoch 2/3"))
    for pod in pods:
        pod.send_signal(signal.SIGKILL)
        pod.communicate()
    chief, worker = wait_for(start_pods(shards, tmp_path))
    assert "2 devices share each batch" in chief
    assert last_record(chief)["resumed_after"] == [2]
    assert last_record(chief)["history"] == last_record(worker)["history"]
    assert_close(last_record(chief)["history"], single_process_history)
    assert "epoch" not in worker.splitlines()[0]  # it prints only its history
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert written[0] == f"pod_0/{MODEL_FILE}"
    assert all(path.startswith("pod_0/") for path in written)


def test_a_batch_has_at_least_one_slice_for_each_device(shards, tmp_path):
    nine = SimpleNamespace(num_replicas_in_sync=9)  # more devices than a CI machine can simulate
    with pytest.raises(InputError, match="batch_size is 8; expected 9 or more"):
        train(shards, tmp_path, recipe=TINY, strategy=nine)


def test_a_single_process_is_its_own_chief():
    assert select_strategy().num_replicas_in_sync == 1
    assert is_chief(select_strategy())
