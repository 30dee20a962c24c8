"""Recipes: presets, and single settings changed."""

import pytest

from components.runtime.errors import InputError
from components.train.recipe import PRESETS, Augmentation, Recipe, changed_recipe


def test_single_settings_can_be_changed_as_json_gives_them():
    changed = changed_recipe(Recipe(), {"learning_rate": 1e-4, "filters": [8, 16], "augmentation": {"noise": 0}})
    assert changed == Recipe(learning_rate=1e-4, filters=(8, 16), augmentation=Augmentation(noise=0))


def test_whole_numbers_may_come_as_kubeflow_sends_them():
    """A dict among a run's parameters is a protobuf Struct, which holds every number as a float."""
    changed = changed_recipe(Recipe(), {"filters": [8.0, 16.0], "slices_per_epoch": 64.0})
    assert (changed.filters, changed.slices_per_epoch) == ((8, 16), 64)
    assert {type(number) for number in (*changed.filters, changed.slices_per_epoch)} == {int}


def test_augmentation_can_be_switched_off_and_on():
    assert changed_recipe(Recipe(), {"augmentation": None}).augmentation is None
    assert changed_recipe(PRESETS["baseline-focal"], {"augmentation": {}}).augmentation == Augmentation()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lerning_rate": 1}, "recipe setting lerning_rate: not known; expected .*learning_rate"),
        ({"augmentation": {"blur": 1}}, "recipe setting augmentation.blur: not known; expected .*noise"),
        ({"augmentation": {"noise": -1}}, "recipe setting augmentation.noise is -1: input should be greater than"),
        ({"epochs": "many"}, "recipe setting epochs is 'many': input should be a valid integer"),
        ({"epochs": 0}, "recipe setting epochs is 0: input should be greater than 0"),
        ({"batch_size": 0}, "recipe setting batch_size is 0: input should be greater than 0"),
        ({"learning_rate": float("nan")}, "recipe setting learning_rate is nan: input should be a finite number"),
        ({"filters": [16, 0]}, "recipe setting filters.1 is 0: input should be greater than 0"),
        ({"filters": []}, "recipe setting filters is .*at least 1 item"),
        ({"window_hu": [250, -1250]}, "recipe setting window_hu is .*: the lower end should come first"),
        ({"dice_per": "voxel"}, "recipe setting dice_per is 'voxel': input should be 'slice' or 'batch'"),
    ],
)
def test_a_mistaken_change_is_told(changes, message):
    with pytest.raises(InputError, match=message):
        changed_recipe(Recipe(), changes)


def test_the_published_presets_differ_in_loss_and_augmentation_alone():
    focal, focal_dice = PRESETS["baseline-focal"], PRESETS["baseline-focal-dice"]
    same = changed_recipe(
        focal_dice, {"augmentation": None, "focal_weight": 1.0, "dice_weight": 0.0, "dice_per": focal.dice_per}
    )
    assert same == focal
