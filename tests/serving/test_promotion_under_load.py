"""Promotions on two server processes under load, one of which is killed and starts again."""

import socket
import subprocess
import threading
import time
from contextlib import ExitStack

import numpy as np
import pytest

from serving.client.endpoint import ServingError
from serving.client.promotion import promote, rollback
from serving.client.replicas import Replicas
from serving.client.segmentation import SegmentationClient
from serving.versions.labels import VersionLabels
from serving.versions.manifest import write_manifest
from tests.serving.conftest import COMMAND, wait_until
from tests.serving.toy import MODEL, SIZE, save_toy_model, toy_probability

GAINS = {6: 1.0, 7: 0.5, 8: 0.25}
SLICES = np.random.default_rng(6).integers(-1400, 400, (4, SIZE, SIZE), np.int16)


class Caller:
    """The product's client, which asks one server for one label until it is stopped."""

    def __init__(self, address, label):
        self.address, self.label = address, label
        self.versions, self.errors, self.wrong = [], [], []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._call)
        self._thread.start()

    def stop(self):
        self._stop.set()
        self._thread.join()

    def follows(self, version):
        """Wait until new answers are by a version."""
        before = len(self.versions)
        wait_until(lambda: len(self.versions) > before + 1 and self.versions[-1] == version)

    def _call(self):
        with SegmentationClient(self.address, MODEL, version_label=self.label, timeout_s=30) as client:
            while not self._stop.wait(0.01):
                try:
                    probability, _, version = client.predict_slices(SLICES)
                except ServingError as error:
                    self.errors.append(str(error))
                    continue
                self.versions.append(version)
                if not np.allclose(probability, GAINS[version] * toy_probability(SLICES), atol=1e-6):
                    self.wrong.append(version)


def start(config_file, port):
    """Start a server on a port; wait until it serves."""
    command = [*COMMAND, "serve", "--model-config-file", config_file, "--poll", 0.1, "--port", port]
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout.readline().startswith("serving ")
    return process


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.mark.slow
def test_no_request_is_lost_or_wrong_through_promotions_a_rollback_and_a_killed_server(tmp_path):
    base = tmp_path / "base"
    for number, gain in GAINS.items():
        save_toy_model(base / str(number), gain=gain)
        (base / str(number) / "assets.extra").mkdir()
        write_manifest(base / str(number))
    labels = VersionLabels(base / "models.config", MODEL, str(base))
    for label in ("stable", "canary"):
        promote(labels, 6, label, why="as served so far")
    ports = [free_port(), free_port()]
    processes = [start(labels.config_file, port) for port in ports]
    up, killed = (f"127.0.0.1:{port}" for port in ports)
    steady = [Caller(up, "stable"), Caller(up, "canary")]
    restarted = [Caller(killed, "stable"), Caller(killed, "canary")]
    callers = [*steady, *restarted]
    ways = {"replicas": Replicas([up, killed]), "timeout_s": 120}
    try:
        with ExitStack() as stack:
            for caller in callers:
                stack.callback(caller.stop)
                caller.follows(6)
            assert promote(labels, 7, "canary", why="try it", **ways)
            for caller in callers:
                caller.follows({"stable": 6, "canary": 7}[caller.label])
            processes[1].kill()
            processes[1].wait()
            time.sleep(0.5)

            def restart():
                processes[1] = start(labels.config_file, ports[1])

            restarting = threading.Thread(target=restart)
            restarting.start()
            assert promote(labels, 7, "stable", why="good", **ways)  # waits for the killed server
            restarting.join()
            for caller in callers:
                caller.follows(7)
            assert rollback(labels, "stable", why="noise", **ways)
            for caller in callers:
                caller.follows({"stable": 6, "canary": 7}[caller.label])
            for label in ("canary", "stable"):
                assert promote(labels, 8, label, why="next", **ways)
            for caller in callers:
                caller.follows(8)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    print([(len(caller.versions), len(caller.errors)) for caller in callers])
    assert [caller.errors for caller in steady] == [[], []]
    assert [caller.wrong for caller in callers] == [[], [], [], []]
    assert {error for caller in restarted for error in caller.errors if "UNAVAILABLE" not in error} == set()
    order = {"stable": [6, 7, 6, 8], "canary": [6, 7, 8]}
    for caller in callers:
        changes = [v for v, before in zip(caller.versions, [None, *caller.versions], strict=False) if v != before]
        assert changes == order[caller.label]
