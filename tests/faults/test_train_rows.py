"""Rows 32 to 36 of the fault table: killed processes, damaged files, diverging losses, insufficient memory."""

import dataclasses
import json
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from components.runtime.errors import InputError
from components.train import MODEL_FILE, TRAINING_FILE
from components.train.checkpoint import CheckpointFolder
from components.train.devices import require_gpu
from components.train.network import load_model
from components.train.training import train
from tests.faults.training_process import TINY
from tests.train.conftest import SIZE, write_shards

PROCESS = [sys.executable, "-m", "tests.faults.training_process"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    return write_shards(tmp_path_factory.mktemp("shards"), {"train": 4, "validation": 2, "test": 1})


@pytest.fixture(scope="module")
def uninterrupted(shards, tmp_path_factory):
    """The uninterrupted run, for comparison."""
    output = tmp_path_factory.mktemp("uninterrupted")
    return train(shards, output, recipe=TINY, seed=1), output


@pytest.fixture(scope="module")
def killed_run(shards, tmp_path_factory) -> Path:
    """The checkpoints of a run killed in its fourth epoch."""
    folder = tmp_path_factory.mktemp("killed")
    command = [*PROCESS, str(shards), str(folder / "pod"), str(folder / "volume")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        next(line for line in process.stdout if line.startswith("epoch 3/6"))
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (folder / "pod" / MODEL_FILE).exists()
    return folder / "volume"


@pytest.fixture
def checkpoints(killed_run, tmp_path) -> Path:
    """A copy of the killed run's checkpoints."""
    return shutil.copytree(killed_run, tmp_path / "volume")


def predict_the_same(one: Path, other: Path) -> bool:
    slices_hu = np.random.default_rng(0).normal(-700, 200, (4, SIZE, SIZE)).astype(np.float32)
    probability = [np.asarray(load_model(output / MODEL_FILE)(slices_hu)) for output in (one, other)]
    return np.abs(probability[0] - probability[1]).max() < 0.05


def logged_epochs(caplog) -> list[int]:
    return [int(number) for number in re.findall(r"^epoch (\d+)/6 ", "\n".join(caplog.messages), re.MULTILINE)]


def test_row_34_a_killed_run_resumes_in_a_new_pod_with_the_same_result(
    checkpoints, shards, uninterrupted, tmp_path, caplog
):
    run = train(shards, tmp_path / "second_pod", recipe=TINY, seed=1, checkpoints=checkpoints)
    done = run.resumed_after[0]
    assert done >= 3
    assert logged_epochs(caplog) == list(range(done + 1, 7))  # no finished epoch is repeated
    expected, output = uninterrupted
    assert run.best_epoch == expected.best_epoch
    np.testing.assert_allclose(run.history["loss"], expected.history["loss"], rtol=2e-2)
    assert predict_the_same(tmp_path / "second_pod", output)
    assert not checkpoints.exists()  # a finished run cleans up


def test_row_34_a_run_with_another_seed_ignores_the_checkpoint(checkpoints, shards, tmp_path, caplog):
    run = train(shards, tmp_path / "model", recipe=TINY, seed=2, checkpoints=checkpoints)
    assert run.resumed_after == []
    assert logged_epochs(caplog) == [1, 2, 3, 4, 5, 6]
    assert list(checkpoints.glob("*/epoch-*.npz"))  # those of the first seed remain


def test_row_35_a_damaged_checkpoint_is_reported_and_the_previous_one_used(
    checkpoints, shards, uninterrupted, tmp_path, caplog
):
    before, newest = sorted(checkpoints.glob("*/epoch-*.npz"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1  # one bit
    newest.write_bytes(content)
    run = train(shards, tmp_path / "model", recipe=TINY, seed=1, checkpoints=checkpoints)
    assert f"{newest}: damaged" in caplog.text
    assert run.resumed_after == [int(before.name[6:10])]
    np.testing.assert_allclose(run.history["loss"], uninterrupted[0].history["loss"], rtol=2e-2)


def test_row_35_without_an_undamaged_checkpoint_the_run_starts_over(checkpoints, shards, tmp_path, caplog):
    for path in checkpoints.glob("*/epoch-*.npz"):
        path.write_bytes(path.read_bytes()[:1000])
    run = train(shards, tmp_path / "model", recipe=TINY, seed=1, checkpoints=checkpoints)
    assert caplog.text.count(": damaged") == 2
    assert run.resumed_after == []
    assert len(run.history["loss"]) == 6


def test_row_32_a_loss_that_is_not_finite_stops_the_run_without_a_model(shards, tmp_path):
    exploding = dataclasses.replace(TINY, learning_rate=3e38, batch_norm=False, weight_decay=0.0)
    with pytest.raises(InputError, match=r"epoch 1.*learning_rate"):
        train(shards, tmp_path / "model", recipe=exploding, seed=1)
    assert not (tmp_path / "model" / MODEL_FILE).exists()


def test_row_32_a_later_divergence_saves_the_best_network_beside_the_checkpoints(checkpoints, shards, tmp_path):
    poison(checkpoints)
    with pytest.raises(InputError, match=r"epoch 4.* epoch \d.*Dice 0\.\d+.*best\.keras"):
        train(shards, tmp_path / "model", recipe=TINY, seed=1, checkpoints=checkpoints)
    assert not (tmp_path / "model" / MODEL_FILE).exists()
    (best,) = checkpoints.glob("*/best.keras")
    assert np.isfinite(np.asarray(load_model(best)(np.full((1, SIZE, SIZE), -800.0, np.float32)))).all()


def poison(checkpoints: Path) -> None:
    """Make the optimizer state of the newest checkpoint infinite, as it is just before a run diverges."""
    (folder,) = checkpoints.iterdir()
    writer = CheckpointFolder(folder)
    newest = writer.read_newest()
    next(folder.glob(f"epoch-{newest.epoch:04d}.*")).unlink()
    moments = [array * np.inf if array.dtype == np.float32 and array.ndim else array for array in newest.optimizer]
    writer.write(dataclasses.replace(newest, optimizer=moments))


def test_row_33_a_required_gpu_that_is_absent_is_an_error():
    if keras.distribution.list_devices("gpu"):
        pytest.skip("a GPU is present")
    with pytest.raises(InputError, match=r"require_gpu .*GPU"):
        require_gpu()


def test_row_33_out_of_memory_suggests_a_batch_size(shards, tmp_path):
    command = [*PROCESS, str(shards), str(tmp_path / "model"), str(tmp_path / "checkpoints"), "30000", str(1 << 30)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    message = done.stderr.strip().splitlines()[-1]
    assert message == "error: training: out of memory with batches of 30000 slices of 32×32; try batch_size=15000"
    assert done.returncode == 1
    assert not (tmp_path / "model" / MODEL_FILE).exists()


@pytest.mark.parametrize("fault", ["No space left on device", "File too large"])
def test_row_33_a_full_disk_of_events_is_not_reported_as_a_lack_of_memory(shards, tmp_path, fault):
    events = tmp_path / "model" / "tensorboard"
    events.mkdir(parents=True)
    command, limit = [*PROCESS, shards, events.parent, tmp_path / "checkpoints"], resource.RLIM_INFINITY
    if fault == "File too large":
        limit = 200  # bytes: the end of the first epoch
    else:
        run = f'mount -t tmpfs -o size=4k none {events} && head -c 4096 /dev/zero > {events}/x; exec "$0" "$@"'
        command = ["unshare", "-rm", "sh", "-c", run, *command]
    done = subprocess.run(
        [*map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    if "unshare failed" in done.stderr:
        pytest.skip("user namespaces are not available")
    assert re.match(rf"error: {events}/events\S+: {fault}", done.stderr.strip().splitlines()[-1])
    assert done.returncode == 1


def test_row_36_a_model_with_a_lambda_layer_is_refused(tmp_path):
    marker = tmp_path / "ran"
    name = str(marker)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: (open(name, "w").close(), x)[1])])
    model.save(tmp_path / MODEL_FILE)
    marker.unlink()  # building the model ran the code
    with pytest.raises(InputError, match=rf"{MODEL_FILE}: cannot be loaded safely"):
        load_model(tmp_path / MODEL_FILE)
    assert not marker.exists()


def test_row_36_safe_mode_is_never_disabled():
    root = Path(__file__).parents[2]
    sources = [path for folder in ("components", "pipelines", "serving") for path in (root / folder).rglob("*.py")]
    assert len(sources) > 100
    unsafe = [path for path in sources if re.search(r"safe_mode\s*=\s*False|enable_unsafe", path.read_text())]
    assert unsafe == []


def test_an_uninterrupted_run_records_no_resumption(uninterrupted):
    _, output = uninterrupted
    assert json.loads((output / TRAINING_FILE).read_text())["resumed_after"] == []
