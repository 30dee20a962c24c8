"""Recipes: presets, and single settings changed."""

import pytest

from components.ct.errors import InputError
from components.train.recipe import PRESETS, Augmentation, Recipe, changed_recipe


def test_single_settings_can_be_changed_as_json_gives_them():
    changed = changed_recipe(Recipe(), {"learning_rate": 1e-4, "filters": [8, 16], "augmentation": {"noise": 0}})
    assert changed == Recipe(learning_rate=1e-4, filters=(8, 16), augmentation=Augmentation(noise=0))


def test_augmentation_can_be_switched_off_and_on():
    assert changed_recipe(Recipe(), {"augmentation": None}).augmentation is None
    assert changed_recipe(PRESETS["seed-focal"], {"augmentation": {}}).augmentation == Augmentation()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lerning_rate": 1}, "recipe setting lerning_rate: not known; expected .*learning_rate"),
        ({"augmentation": {"blur": 1}}, "recipe setting blur: not known; expected .*noise"),
        ({"epochs": "many"}, "recipe setting epochs is 'many'; expected a number, such as 30"),
    ],
)
def test_a_mistaken_change_is_told(changes, message):
    with pytest.raises(InputError, match=message):
        changed_recipe(Recipe(), changes)


def test_the_published_presets_differ_in_loss_and_augmentation_alone():
    focal, focal_dice = PRESETS["seed-focal"], PRESETS["seed-focal-dice"]
    same = changed_recipe(
        focal_dice, {"augmentation": None, "focal_weight": 1.0, "dice_weight": 0.0, "dice_per": focal.dice_per}
    )
    assert same == focal
