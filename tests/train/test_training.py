"""A whole run on tiny shards: what it learns, keeps, writes and logs."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.util.event_pb2 import Event

from components.runtime.files import sha256_of
from components.train import MODEL_FILE, TRAINING_FILE
from components.train.network import load_model
from components.train.recipe import PRESETS, Recipe
from components.train.record import write_report
from components.train.training import train
from components.train.validation import mean_case_dice, predict_on_grid, read_validation_slices
from tests.train.conftest import SIZE

# Slices a cohort and trains on it, under another hash seed in each process.
SLICE_AND_TRAIN = """
import sys
from pathlib import Path
from components.slice.slicing import slice_cohort
from components.train.training import train
from tests.train.test_training import TINY
cohort, output = map(Path, sys.argv[1:])
slice_cohort(cohort, cohort, output / "shards", image_size=32, seed=1)
train(output / "shards", output / "model", recipe=TINY, seed=1)
"""
TINY = Recipe(filters=(4, 8), epochs=4, slices_per_epoch=32, learning_rate=2e-2)


@pytest.fixture(scope="module")
def finished(shards, tmp_path_factory):
    output = tmp_path_factory.mktemp("model")
    return train(shards, output, recipe=TINY, seed=1), output


def test_a_few_epochs_find_an_obvious_lesion(finished):
    run, _ = finished
    assert run.best_val_dice > 0.7


def test_the_saved_model_is_that_of_the_best_epoch(finished, shards):
    run, output = finished
    slices = read_validation_slices(shards, SIZE, 256)
    probability = predict_on_grid(load_model(output / MODEL_FILE), slices.slices_hu)
    assert run.best_val_dice == max(run.history["val_dice"])
    # The run validates in the training precision, the saved model predicts in float32.
    assert mean_case_dice(probability, slices) == pytest.approx(run.best_val_dice, abs=0.02)


def test_the_record_holds_history_recipe_and_digest(finished):
    run, output = finished
    record = json.loads((output / TRAINING_FILE).read_text())
    assert record["history"] == run.history
    assert {len(series) for series in record["history"].values()} == {4}
    assert np.isfinite(list(record["history"].values())).all()
    assert record["model_sha256"] == sha256_of(output / MODEL_FILE)
    assert record["recipe"]["filters"] == [4, 8]
    assert record["image_size"] == SIZE


def test_each_epoch_is_a_tensorboard_event(finished):
    run, output = finished
    (path,) = (output / "tensorboard").iterdir()
    events = [Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(path))]
    assert events[0].file_version == "brain.Event:2"
    values = [value for event in events for value in event.summary.value if value.tag == "val_dice"]
    dice = [tf.make_ndarray(value.tensor) for value in values]
    np.testing.assert_allclose(dice, run.history["val_dice"], rtol=1e-6)


def test_a_finished_run_leaves_no_temporary_file(finished):
    assert sorted(path.name for path in finished[1].iterdir()) == [MODEL_FILE, "tensorboard", TRAINING_FILE]


def test_the_report_is_one_page_with_curves(finished, tmp_path):
    run, _ = finished
    write_report(tmp_path / "report", run, "default")
    page = (tmp_path / "report").read_text()
    assert "data:image/svg+xml;base64," in page
    assert f"{run.best_val_dice:.3f}" in page
    assert len(page) < 500_000


def test_equal_seeds_train_equal_networks(finished, shards, tmp_path):
    again = train(shards, tmp_path, recipe=TINY, seed=1)
    np.testing.assert_allclose(again.history["loss"], finished[0].history["loss"], rtol=2e-2)


def test_two_processes_with_one_seed_write_the_same_shards_and_model(small_cohort, tmp_path):
    for run in ("one", "two"):
        subprocess.run([sys.executable, "-c", SLICE_AND_TRAIN, str(small_cohort), str(tmp_path / run)], check=True)
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()]
    files = [file for file in files if file.name != TRAINING_FILE and "tensorboard" not in file.parts]  # hold times
    assert len(files) == 8  # six shards, split.json and the model
    different = [
        str(file) for file in files if sha256_of(tmp_path / "one" / file) != sha256_of(tmp_path / "two" / file)
    ]
    assert different == []


def test_each_epoch_logs_one_line(shards, tmp_path, caplog):
    train(shards, tmp_path, recipe=dataclasses.replace(TINY, epochs=2, flip_averaging=True), seed=1)
    assert load_model(tmp_path / MODEL_FILE).name == "flip_averaged"
    lines = [line for line in caplog.messages if line.startswith("epoch")]
    assert [line[:34] for line in lines] == ["epoch 1/2 [##########..........] l", "epoch 2/2 [####################] l"]
    assert "(best)" in lines[0]


@pytest.mark.parametrize("preset", ["baseline-focal", "baseline-focal-dice"])
def test_the_baseline_presets_train_on_8_bit_gray_values(shards, tmp_path, preset):
    run = train(shards, tmp_path, recipe=dataclasses.replace(PRESETS[preset], epochs=1))
    assert np.isfinite(run.history["loss"]).all()
    assert load_model(tmp_path / MODEL_FILE).get_layer("window").top == 255
