"""The search for better settings, on tiny shards."""

import csv
import dataclasses
import json

import pytest

from components.runtime.errors import InputError
from components.train.recipe import PRESETS, Augmentation, changed_recipe
from components.train.tuning import strengthened, tune

TINY = dataclasses.replace(PRESETS["default"], filters=(4, 8), epochs=1, slices_per_epoch=16)


def test_the_recipe_itself_is_tried_first_and_the_best_can_be_handed_to_train(shards, tmp_path):
    best = tune(shards, tmp_path, recipe=TINY, trials=3)
    with (tmp_path / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert changed_recipe(TINY, json.loads(rows[0]["changes"])) == TINY
    assert len({row["changes"] for row in rows}) == 3
    dices = [float(row["val_dice"]) for row in rows]
    assert (
        best == json.loads((tmp_path / "best.json").read_text()) == json.loads(rows[dices.index(max(dices))]["changes"])
    )
    assert changed_recipe(TINY, best).focal_weight == pytest.approx(1 - best["dice_weight"])


def test_the_strength_scales_every_range_and_leaves_flips_alone():
    doubled = changed_recipe(TINY, {"augmentation": strengthened(Augmentation(), 2.0)}).augmentation
    assert doubled == Augmentation(
        rotation_deg=40.0, scale=0.5, stretch=0.2, shift=0.16, brightness=0.16, contrast=0.5, gamma=0.8, noise=0.06
    )


def test_a_search_of_nothing_is_an_error(shards, tmp_path):
    with pytest.raises(InputError, match="trials is 0; expected 1 or more"):
        tune(shards, tmp_path, recipe=TINY, trials=0)
