"""A whole run on tiny shards: what is learned, kept, written and told."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.util.event_pb2 import Event

from components.runtime.errors import InputError
from components.runtime.files import sha256_of
from components.train.examples import validation_slices
from components.train.network import load_model
from components.train.recipe import PRESETS, select_recipe
from components.train.report import write_report
from components.train.training import train
from components.train.validation import mean_case_dice, predict_slices
from tests.train.conftest import SIZE

TINY = dataclasses.replace(PRESETS["default"], filters=(4, 8), epochs=4, slices_per_epoch=32, learning_rate=2e-2)


@pytest.fixture(scope="module")
def finished(shards, tmp_path_factory):
    output = tmp_path_factory.mktemp("model")
    return train(shards, output, recipe=TINY, seed=1), output


def test_a_few_epochs_find_what_is_easy_to_find(finished):
    run, _ = finished
    assert run.best_val_dice > 0.7


def test_the_kept_model_is_the_best_epochs(finished, shards):
    run, output = finished
    slices = validation_slices(shards, SIZE, 256)
    probability = predict_slices(load_model(output / "model.keras"), slices.slices_hu)
    assert run.best_val_dice == max(run.history["val_dice"])
    # The run answered in the training's precision, the kept model does in float32.
    assert mean_case_dice(probability, slices) == pytest.approx(run.best_val_dice, abs=0.02)


def test_the_history_and_the_digest_are_written(finished):
    run, output = finished
    told = json.loads((output / "training.json").read_text())
    assert told["history"] == run.history
    assert {len(series) for series in told["history"].values()} == {4}
    assert np.isfinite(list(told["history"].values())).all()
    assert told["model_sha256"] == sha256_of(output / "model.keras")
    assert told["recipe"]["filters"] == [4, 8]
    assert told["image_size"] == SIZE


def test_each_epoch_is_an_event(finished):
    run, output = finished
    (path,) = (output / "tensorboard").iterdir()
    events = [Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(path))]
    assert events[0].file_version == "brain.Event:2"
    dice = [value.simple_value for event in events for value in event.summary.value if value.tag == "val_dice"]
    np.testing.assert_allclose(dice, run.history["val_dice"], rtol=1e-6)


def test_nothing_half_written_is_left(finished):
    assert sorted(path.name for path in finished[1].iterdir()) == ["model.keras", "tensorboard", "training.json"]


def test_the_report_is_one_page_with_its_curves(finished, tmp_path):
    run, _ = finished
    write_report(tmp_path / "report", run, "default")
    page = (tmp_path / "report").read_text()
    assert "data:image/svg+xml;base64," in page
    assert f"{run.best_val_dice:.3f}" in page
    assert len(page) < 500_000


def test_the_same_seed_trains_the_same_network(finished, shards, tmp_path):
    again = train(shards, tmp_path, recipe=TINY, seed=1)
    np.testing.assert_allclose(again.history["loss"], finished[0].history["loss"], rtol=2e-2)


def test_each_epoch_is_told_in_one_line(shards, tmp_path, capsys):
    train(shards, tmp_path, recipe=dataclasses.replace(TINY, epochs=2, flip_averaging=True), seed=1)
    assert load_model(tmp_path / "model.keras").name == "flip_averaged"
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert [line[:34] for line in lines] == ["epoch 1/2 [##########..........] l", "epoch 2/2 [####################] l"]
    assert "(best)" in lines[0]


@pytest.mark.parametrize("preset", ["baseline-focal", "baseline-focal-dice"])
def test_the_published_presets_pass_once_through_the_slices_with_the_values_of_8_bit_files(shards, tmp_path, preset):
    recipe = dataclasses.replace(select_recipe(preset), epochs=1)
    run = train(shards, tmp_path, recipe=recipe)
    assert np.isfinite(run.history["loss"]).all()
    assert load_model(tmp_path / "model.keras").get_layer("window").top == 255


def test_an_unknown_preset_is_told_with_those_there_are():
    with pytest.raises(InputError, match="expected one of default, baseline-focal, baseline-focal-dice"):
        select_recipe("best")
