"""Recipes: presets, changed settings, and their precedence."""

import json
from types import SimpleNamespace

import pytest

from components.runtime.errors import InputError
from components.train import TRAINING_FILE
from components.train.component import train as train_step
from components.train.recipe import PRESETS, Augmentation, Recipe, change_recipe, select_recipe
from pipelines.parameters import PIPELINES, parse_parameters


def test_settings_change_by_json_values():
    changed = change_recipe(Recipe(), {"learning_rate": 1e-4, "filters": [8, 16], "augmentation": {"noise": 0}})
    assert changed == Recipe(learning_rate=1e-4, filters=(8, 16), augmentation=Augmentation(noise=0))


def test_integers_may_arrive_as_floats():
    """A dict parameter of a Kubeflow run is a protobuf Struct, which holds every number as a float."""
    changed = change_recipe(Recipe(), {"filters": [8.0, 16.0], "slices_per_epoch": 64.0})
    assert (changed.filters, changed.slices_per_epoch) == ((8, 16), 64)
    assert {type(number) for number in (*changed.filters, changed.slices_per_epoch)} == {int}


def test_augmentation_can_be_disabled_and_enabled():
    assert change_recipe(Recipe(), {"augmentation": None}).augmentation is None
    assert change_recipe(PRESETS["baseline-focal"], {"augmentation": {}}).augmentation == Augmentation()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lerning_rate": 1}, "lerning_rate: unknown.*learning_rate"),
        ({"augmentation": {"blur": 1}}, "augmentation.blur: unknown.*noise"),
        ({"augmentation": {"noise": -1}}, "augmentation.noise is -1: .*greater than"),
        ({"epochs": "many"}, "epochs is 'many': .*integer"),
        ({"epochs": 0}, "epochs is 0: .*greater than 0"),
        ({"batch_size": 0}, "batch_size is 0: .*greater than 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan: .*finite"),
        ({"filters": [16, 0]}, "filters.1 is 0: .*greater than 0"),
        ({"focal_weight": 0, "dice_weight": 0.0}, "focal_weight and dice_weight are both 0"),
        ({"filters": []}, "filters is .*at least 1 item"),
        ({"window_hu": [250, -1250]}, "window_hu is .*lower end"),
        ({"dice_per": "voxel"}, "dice_per is 'voxel': .*'slice' or 'batch'"),
    ],
)
def test_an_invalid_change_names_the_setting(changes, message):
    with pytest.raises(InputError, match=message):
        change_recipe(Recipe(), changes)


def test_the_baseline_presets_differ_only_in_loss_and_augmentation():
    focal, focal_dice = PRESETS["baseline-focal"], PRESETS["baseline-focal-dice"]
    loss = {"augmentation": None, "focal_weight": 1.0, "dice_weight": 0.0, "dice_per": focal.dice_per}
    assert change_recipe(focal_dice, loss) == focal


@pytest.mark.parametrize(
    ("preset", "changes", "explicit", "epochs"),
    [
        ("default", {}, {}, 30),
        ("baseline-focal", {}, {}, 10),
        ("baseline-focal-dice", {}, {}, 10),
        ("default", {"epochs": 5}, {}, 5),
        ("baseline-focal", {}, {"epochs": 30}, 30),
        ("default", {"epochs": 5.0}, {"epochs": 5}, 5),
    ],
)
def test_explicit_values_precede_the_preset(preset, changes, explicit, epochs):
    recipe = select_recipe(preset, changes, **explicit)
    assert (recipe.epochs, recipe.batch_size) == (epochs, 8)


@pytest.mark.parametrize("name", ["epochs", "batch_size"])
def test_two_values_for_one_setting_are_an_error(name):
    for value in (5, 5.0):  # Kubeflow's numbers are floats
        with pytest.raises(InputError, match=f"{name} is 4.*changes.*{name} to 5;"):
            select_recipe("default", {name: value}, **{name: 4})


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(InputError, match=r"'best'.*default, baseline-focal, baseline-focal-dice"):
        select_recipe("best")


@pytest.mark.parametrize(("parameters", "epochs"), [({}, 2), ({"epochs": 0}, 2), ({"epochs": 1}, 1)])
def test_the_train_step_keeps_the_epochs_of_changes(shards, tmp_path, parameters, epochs):
    outputs = {name: SimpleNamespace(path=str(tmp_path / name), metadata={}) for name in ("model", "report")}
    changes = {"filters": [4, 8], "slices_per_epoch": 16} | ({} if parameters.get("epochs") else {"epochs": 2})
    train_step.python_func(
        shards=SimpleNamespace(path=str(shards)),
        **outputs,
        tensorboard=SimpleNamespace(path=str(tmp_path / "tensorboard")),
        metrics=SimpleNamespace(log_metric=lambda name, value: None),
        changes=changes,
        **parameters,
    )
    written = json.loads((tmp_path / "model" / TRAINING_FILE).read_text())
    assert written["recipe"]["epochs"] == len(written["history"]["loss"]) == epochs


@pytest.mark.parametrize("pipeline", ["training", "cross-validation"])
def test_the_pipelines_leave_epochs_and_batch_size_to_the_preset(pipeline):
    inputs = PIPELINES[pipeline].component_spec.inputs
    assert (inputs["epochs"].default, inputs["batch_size"].default) == (0, 0)
    assert parse_parameters(pipeline, ["EPOCHS=5"]) == {"epochs": 5}
