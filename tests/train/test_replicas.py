"""Runs that spread: over two devices of a machine, and over two pods, which here are two processes."""

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
from components.train.devices import distribution, is_chief
from components.train.training import train
from tests.train.worker_process import TINY

PROCESS = [sys.executable, "-m", "tests.train.worker_process"]


@pytest.fixture(scope="module")
def alone(shards, tmp_path_factory):
    """The history of the same run in one process."""
    return train(shards, tmp_path_factory.mktemp("alone"), recipe=TINY, seed=1).history


def free_ports(count: int) -> list[int]:
    with ExitStack() as open_ones:
        sockets = [open_ones.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def start_pods(shards: Path, folder: Path) -> list[subprocess.Popen]:
    """Two workers with outputs of their own and one folder of checkpoints, as a Kubeflow training job starts them."""
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


def finished(pods: list[subprocess.Popen]) -> list[str]:
    """What each pod printed; all end well."""
    try:
        outputs = [pod.communicate(timeout=200)[0] for pod in pods]
    finally:
        for pod in pods:
            pod.kill()
    assert [pod.returncode for pod in pods] == [0, 0]
    return outputs


def told(output: str) -> dict:
    return json.loads(output.splitlines()[-1])


def close(history: dict, expected: dict) -> None:
    """Equal but for the batch normalization, whose statistics are those of each replica's part."""
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=0.05)
    np.testing.assert_allclose(history["dice"], expected["dice"], atol=0.05)


def test_two_devices_learn_what_one_does(shards, alone, tmp_path):
    command = [*PROCESS, str(shards), str(tmp_path / "model"), str(tmp_path / "checkpoints"), "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "each batch is shared by 2 devices" in done.stdout
    close(told(done.stdout)["history"], alone)
    assert (tmp_path / "model" / "model.keras").exists()


@pytest.mark.slow
def test_two_pods_learn_what_one_does_and_go_on_after_both_were_killed(shards, alone, tmp_path):
    pods = start_pods(shards, tmp_path)
    next(line for line in pods[0].stdout if line.startswith("epoch 2/3"))
    for pod in pods:
        pod.send_signal(signal.SIGKILL)
        pod.communicate()
    leader, follower = finished(start_pods(shards, tmp_path))
    assert "each batch is shared by 2 devices" in leader
    assert told(leader)["resumed_after"] == [2]
    assert told(leader)["history"] == told(follower)["history"]
    close(told(leader)["history"], alone)
    assert "epoch" not in follower.splitlines()[0]  # it tells nothing but its history
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert written[0] == "pod_0/model.keras"
    assert all(path.startswith("pod_0/") for path in written)


def test_a_batch_must_give_each_device_a_slice(shards, tmp_path):
    nine = SimpleNamespace(num_replicas_in_sync=9)  # more devices than any machine of CI pretends to have
    with pytest.raises(InputError, match="batch_size is 8; expected 9 or more, a slice for each GPU or pod"):
        train(shards, tmp_path, recipe=TINY, strategy=nine)


def test_without_a_cluster_one_process_leads_itself():
    assert distribution().num_replicas_in_sync == 1
    assert is_chief(distribution())
