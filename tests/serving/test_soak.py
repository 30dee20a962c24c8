"""Soak test: valid and invalid requests in parallel while versions are added and removed, some of them damaged.

Before a release, run it longer: `SOAK_SECONDS=600 pytest -s tests/serving/test_soak.py`.
"""

import json
import os
import re
import shutil
import statistics
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.client.segmentation import SegmentationClient
from serving.versions.model_config import ModelConfig, to_message
from tests.serving.conftest import run_serve, wait_until
from tests.serving.toy import MODEL, SIZE, save_toy_model, toy_probability

SOAK_S = float(os.environ.get("SOAK_SECONDS", "60"))
PAUSE_S = 0.05  # between two requests of one client: the test checks for lost requests, not for speed
SLICES = np.random.default_rng(6).integers(-1400, 400, (4, SIZE, SIZE), np.int16)
STATUS = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": MODEL})
INVALID = [  # model spec, slices, input name, status
    ({"name": "other"}, SLICES, "slices_hu", "NOT_FOUND"),
    ({"signature_name": "no"}, SLICES, "slices_hu", "FAILED_PRECONDITION"),
    ({}, SLICES[:, :8], "slices_hu", "INVALID_ARGUMENT"),
    ({}, SLICES.astype(np.float32), "slices_hu", "INVALID_ARGUMENT"),
    ({}, SLICES, "images", "INVALID_ARGUMENT"),
]


def gain(version: int) -> float:
    """Return a version's gain; it differs between consecutive versions to tell their outputs apart."""
    return 0.5 if version % 2 else 1.0


def request(spec=None, slices=SLICES, name="slices_hu"):
    message = predict_pb2.PredictRequest()
    for field, value in {"name": MODEL, "signature_name": "network", **(spec or {})}.items():
        setattr(message.model_spec, field, value)
    message.inputs[name].CopyFrom(tf.make_tensor_proto(slices))
    return message


class Clients:
    """Threads that send requests until stopped and check every response."""

    def __init__(self, grpc_address: str, rest_address: str) -> None:
        self.counts: Counter[str] = Counter()
        self.errors: list[str] = []
        self.newest = 0  # version of the last response
        self._grpc, self._rest = grpc_address, rest_address
        self._stop = threading.Event()
        requests = [self.valid, self.valid, self.valid, self.volume, self.rest, self.invalid]
        self._threads = [threading.Thread(target=self._repeat, args=(send,)) for send in requests]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, send) -> None:
        with grpc.insecure_channel(self._grpc) as channel:
            stub, number = prediction_service_pb2_grpc.PredictionServiceStub(channel), 0
            while not self._stop.wait(PAUSE_S):
                self.counts["sent"] += 1
                try:
                    send(stub, number)
                    self.counts[send.__name__] += 1
                except (Exception, pytest.fail.Exception) as error:
                    self.errors.append(f"{send.__name__}: {error}")
                number += 1

    def valid(self, stub, number) -> None:
        response = stub.Predict(request(), timeout=30)
        self.newest = response.model_spec.version.value
        probability = tf.make_ndarray(response.outputs["lesion_probability"])
        np.testing.assert_allclose(probability, gain(self.newest) * toy_probability(SLICES), atol=1e-6)

    def volume(self, stub, number) -> None:
        with SegmentationClient(self._grpc, MODEL, chunk_bytes=2 * 4 * SIZE**2) as client:
            probability, _, version = client.predict_slices(SLICES)
        np.testing.assert_allclose(probability, gain(version) * toy_probability(SLICES), atol=1e-6)

    def rest(self, stub, number) -> None:
        body = json.dumps({"instances": SLICES[:1].tolist()}).encode()
        if number % 3 == 0:
            with pytest.raises(urllib.error.HTTPError, match="404") as caught:
                urllib.request.urlopen(f"http://{self._rest}/v1/models/other:predict", body, timeout=30)
            caught.value.close()
            return
        with urllib.request.urlopen(f"http://{self._rest}/v1/models/{MODEL}:predict", body, timeout=30) as response:
            (row,) = json.load(response)["predictions"]
        expected, probability = toy_probability(SLICES[:1])[0], np.array(row["lesion_probability"])
        assert any(np.allclose(probability, factor * expected, atol=1e-6) for factor in (0.5, 1.0))

    def invalid(self, stub, number) -> None:
        spec, slices, name, code = INVALID[number % len(INVALID)]
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(request(spec, slices, name), timeout=30)
        assert caught.value.code().name == code


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def publish(source: Path, base: Path, number: int) -> None:
    """Add a version like an export does: copy it, then rename it."""
    shutil.copytree(source, base / f".{number}")
    (base / f".{number}").rename(base / str(number))


@pytest.mark.slow
@pytest.mark.timeout(SOAK_S + 240)
def test_reloads_under_mixed_requests_lose_no_response_and_leak_no_memory(tmp_path):
    variants, base = tmp_path / "variants", tmp_path / "base"
    for parity in (0, 1):
        save_toy_model(variants / str(parity), gain=gain(parity))
    (variants / "damaged").mkdir()
    (variants / "damaged" / "saved_model.pb").write_bytes(b"no graph")
    base.mkdir()
    publish(variants / "0", base, 2)
    with run_serve("--model-base", base, "--model", MODEL, "--poll", 0.1, "--rest-port", 0) as (process, address):
        rest_address = re.fullmatch(r"REST and metrics on (\S+)\n", process.stdout.readline())[1]
        clients, memory = Clients(address, rest_address), []
        try:
            with grpc.insecure_channel(address) as channel:
                reloads = _change_versions(
                    variants, base, clients, model_service_pb2_grpc.ModelServiceStub(channel), process.pid, memory
                )
        finally:
            clients.stop()
    quarters = [statistics.median(memory[len(memory) * n // 4 : len(memory) * (n + 1) // 4]) for n in range(4)]
    print(f"\n{SOAK_S:.0f} s: {dict(clients.counts)}, {len(clients.errors)} errors, {reloads} new versions")
    print("median MB of each quarter: " + " ".join(f"{quarter:.0f}" for quarter in quarters))
    assert not clients.errors[:5]
    assert clients.counts["sent"] == sum(clients.counts[name] for name in ("valid", "volume", "rest", "invalid"))
    assert quarters[3] < 1.1 * quarters[1]


def _change_versions(variants, base, clients, models, pid, memory) -> int:
    """Add versions until the time is up: by folder, by reload request, and every fifth a damaged one."""
    number, reloads, ends = 2, 0, time.monotonic() + SOAK_S
    while time.monotonic() < ends:
        number += 1
        if number % 5 == 0:
            publish(variants / "damaged", base, number)
            wait_until(
                lambda: any(entry.status.error_message for entry in models.GetModelStatus(STATUS).model_version_status)
            )
            shutil.rmtree(base / str(number))
            continue
        publish(variants / str(number % 2), base, number)
        if number % 3 == 0:
            config = to_message([ModelConfig(MODEL, str(base), newest=1)])
            response = models.HandleReloadConfigRequest(model_management_pb2.ReloadConfigRequest(config=config))
            assert response.status.error_code == 0
        wait_until(lambda version=number: clients.newest == version)
        for old in base.iterdir():
            if old.name != str(number):
                shutil.rmtree(old)
        reloads += 1
        memory.append(resident_mb(pid))
        time.sleep(1.0)
    return reloads
