"""Rows 32 to 36 of the fault table: training runs that break. Processes are killed, files damaged, losses exploded."""

import dataclasses
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from components.runtime.errors import InputError
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
def undisturbed(shards, tmp_path_factory):
    """The run that every broken one is held against."""
    output = tmp_path_factory.mktemp("undisturbed")
    return train(shards, output, recipe=TINY, seed=1), output


@pytest.fixture(scope="module")
def left_by_the_killed(shards, tmp_path_factory) -> Path:
    """The checkpoints of a run that was killed in its fourth epoch."""
    folder = tmp_path_factory.mktemp("killed")
    command = [*PROCESS, str(shards), str(folder / "pod"), str(folder / "volume")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        next(line for line in process.stdout if line.startswith("epoch 3/6"))
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (folder / "pod" / "model.keras").exists()
    return folder / "volume"


@pytest.fixture
def checkpoints(left_by_the_killed, tmp_path) -> Path:
    """A copy of them."""
    return shutil.copytree(left_by_the_killed, tmp_path / "volume")


def same_answers(one: Path, other: Path) -> bool:
    slices_hu = np.random.default_rng(0).normal(-700, 200, (4, SIZE, SIZE)).astype(np.float32)
    answers = [np.asarray(load_model(output / "model.keras")(slices_hu)) for output in (one, other)]
    return np.abs(answers[0] - answers[1]).max() < 0.05


def epochs_in(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"^epoch (\d+)/6 ", text, re.MULTILINE)]


def test_row_34_a_killed_run_goes_on_in_a_new_pod_to_the_same_end(checkpoints, shards, undisturbed, tmp_path, capsys):
    run = train(shards, tmp_path / "second_pod", recipe=TINY, seed=1, checkpoints=checkpoints)
    told = capsys.readouterr().out
    done = run.resumed_after[0]
    assert done >= 3
    assert epochs_in(told) == list(range(done + 1, 7))  # no finished epoch is repeated
    expected, output = undisturbed
    assert run.best_epoch == expected.best_epoch
    np.testing.assert_allclose(run.history["loss"], expected.history["loss"], rtol=2e-2)
    assert same_answers(tmp_path / "second_pod", output)
    assert not checkpoints.exists()  # a finished run cleans up


def test_row_34_a_run_with_another_seed_does_not_take_up_the_checkpoint(checkpoints, shards, tmp_path, capsys):
    run = train(shards, tmp_path / "model", recipe=TINY, seed=2, checkpoints=checkpoints)
    assert run.resumed_after == []
    assert epochs_in(capsys.readouterr().out) == [1, 2, 3, 4, 5, 6]
    assert list(checkpoints.glob("*/epoch-*.npz"))  # those of the first seed are still there


def test_row_35_a_damaged_checkpoint_is_told_of_and_the_one_before_it_used(
    checkpoints, shards, undisturbed, tmp_path, capsys
):
    before, newest = sorted(checkpoints.glob("*/epoch-*.npz"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1  # one bit
    newest.write_bytes(content)
    run = train(shards, tmp_path / "model", recipe=TINY, seed=1, checkpoints=checkpoints)
    told = capsys.readouterr().out
    assert f"{newest}: damaged" in told
    assert run.resumed_after == [int(before.name[6:10])]
    np.testing.assert_allclose(run.history["loss"], undisturbed[0].history["loss"], rtol=2e-2)


def test_row_35_with_every_checkpoint_truncated_the_run_begins_anew(checkpoints, shards, tmp_path, capsys):
    for path in checkpoints.glob("*/epoch-*.npz"):
        path.write_bytes(path.read_bytes()[:1000])
    run = train(shards, tmp_path / "model", recipe=TINY, seed=1, checkpoints=checkpoints)
    assert capsys.readouterr().out.count(": damaged") == 2
    assert run.resumed_after == []
    assert len(run.history["loss"]) == 6


def test_row_32_a_loss_that_is_no_number_stops_the_run_and_leaves_nothing_to_export(shards, tmp_path):
    exploding = dataclasses.replace(TINY, learning_rate=3e38, batch_norm=False, weight_decay=0.0)
    with pytest.raises(InputError, match=r"of epoch 1 (is|are) no number; no epoch was finished; lower learning_rate"):
        train(shards, tmp_path / "model", recipe=exploding, seed=1)
    assert not (tmp_path / "model" / "model.keras").exists()


def test_row_32_a_loss_that_breaks_later_leaves_the_best_network_with_the_checkpoints(checkpoints, shards, tmp_path):
    poison(checkpoints)
    with pytest.raises(InputError, match=r"of epoch \d are no number; epoch \d, validation Dice 0\.\d+, is kept as"):
        train(shards, tmp_path / "model", recipe=TINY, seed=1, checkpoints=checkpoints)
    assert not (tmp_path / "model" / "model.keras").exists()
    (best,) = checkpoints.glob("*/best.keras")
    assert np.isfinite(np.asarray(load_model(best)(np.full((1, SIZE, SIZE), -800.0, np.float32)))).all()


def poison(checkpoints: Path) -> None:
    """Make the optimizer's state of the newest checkpoint infinite, as a diverging run's is just before it breaks."""
    from components.train.checkpoint import CheckpointFolder

    (folder,) = checkpoints.iterdir()
    whole = CheckpointFolder(folder)
    found = whole.newest()
    (folder / next(path.name for path in folder.iterdir() if path.name.startswith(f"epoch-{found.epoch:04d}"))).unlink()
    moments = [array * np.inf if array.dtype == np.float32 and array.ndim else array for array in found.optimizer]
    whole.write(dataclasses.replace(found, optimizer=moments))


def test_row_33_a_gpu_that_is_required_and_absent_is_told_in_one_line():
    if keras.distribution.list_devices("gpu"):
        pytest.skip("this machine has a GPU")
    with pytest.raises(InputError, match="require_gpu is set, and no GPU is visible"):
        require_gpu()


def test_row_33_out_of_memory_names_a_batch_size_to_try(shards, tmp_path):
    command = [*PROCESS, str(shards), str(tmp_path / "model"), str(tmp_path / "checkpoints"), "30000", str(1 << 30)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    message = done.stderr.strip().splitlines()[-1]
    assert message == "error: training: out of memory with batches of 30000 slices of 32×32; try batch_size=15000"
    assert done.returncode == 1
    assert not (tmp_path / "model" / "model.keras").exists()


def test_row_36_a_model_with_a_lambda_layer_is_refused(tmp_path):
    marker = tmp_path / "ran"
    name = str(marker)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: (open(name, "w").close(), x)[1])])
    model.save(tmp_path / "model.keras")
    marker.unlink()  # building the model ran it
    with pytest.raises(InputError, match=r"model\.keras: no model that can be loaded safely"):
        load_model(tmp_path / "model.keras")
    assert not marker.exists()


def test_row_36_safe_mode_is_switched_off_nowhere():
    root = Path(__file__).parents[2]
    sources = [path for folder in ("components", "pipelines", "serving") for path in (root / folder).rglob("*.py")]
    assert len(sources) > 100
    unsafe = [path for path in sources if re.search(r"safe_mode\s*=\s*False|enable_unsafe", path.read_text())]
    assert unsafe == []


def test_the_history_of_an_undisturbed_run_says_that_it_was(undisturbed):
    _, output = undisturbed
    assert json.loads((output / "training.json").read_text())["resumed_after"] == []
