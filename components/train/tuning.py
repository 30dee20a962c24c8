"""A search for better settings of a recipe on a cohort's own validation cases, with Optuna (Akiba et al., 2019).

Run: python -m components.train.tuning SHARDS OUTPUT [--trials 12] [--epochs 10] [--preset default] [--seed 0]

The winner is the best of many on the same few validation cases, so that its Dice there flatters: judge it on the test
cases, as evaluate does, before it is believed.
"""

import argparse
import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

from components.runtime.errors import InputError, exit_on_input_error
from components.runtime.files import atomic_write
from components.train.recipe import Augmentation, Recipe, changed_recipe, preset_recipe
from components.train.training import train

BEST, TRIALS = "best.json", "trials.csv"
_STRENGTHS = ("rotation_deg", "scale", "stretch", "shift", "brightness", "contrast", "gamma", "noise")


def tune(shards: Path, output: Path, *, recipe: Recipe, trials: int, seed: int = 0) -> dict[str, Any]:
    """Try settings, the recipe's own first, and write the best and all of them.

    Args:
        shards: output of slice.
        output: folder for `best.json`, what to give `train` as `changes`, and `trials.csv`, written after each trial.
        recipe: what the settings are changed in; its epochs are those of each trial.
        trials: how many settings are tried.
        seed: of the search and of every training.

    Returns:
        The best settings, as for `changed_recipe`.

    Raises:
        InputError: fewer than one trial, Optuna is not installed, or training is not possible.
    """
    if trials < 1:
        raise InputError(f"trials is {trials}; expected 1 or more")
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise InputError("tuning: Optuna is not installed; install the extra `tuning`") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.enqueue_trial(_own(recipe))
    rows: list[dict[str, Any]] = []
    for number in range(1, trials + 1):
        trial = study.ask()
        changes = suggested(trial, recipe)
        run = train(shards, output / f"trial_{number}", recipe=changed_recipe(recipe, changes), seed=seed)
        study.tell(trial, run.best_val_dice)
        rows.append({"trial": number, "val_dice": run.best_val_dice, "seconds": run.seconds, "changes": changes})
        print(f"trial {number}/{trials}: validation Dice {run.best_val_dice:.3f}, {trial.params}", flush=True)
        best = max(rows, key=lambda row: row["val_dice"])
        _write(output, rows, best["changes"])
    print(f"best: validation Dice {best['val_dice']:.3f}, where the recipe itself has {rows[0]['val_dice']:.3f}")
    return best["changes"]


def _own(recipe: Recipe) -> dict[str, float]:
    strength = 1.0 if recipe.augmentation else 0.0
    weight = recipe.dice_weight / (recipe.dice_weight + recipe.focal_weight)
    return {"dice_weight": weight, "learning_rate": recipe.learning_rate, "augmentation_strength": strength}


def suggested(trial: Any, recipe: Recipe) -> dict[str, Any]:
    """Settings for a trial: learning rate, the loss weights, and one factor on every range of the augmentation."""
    dice_weight = trial.suggest_float("dice_weight", 0.0, 1.0)
    changes: dict[str, Any] = {
        "learning_rate": trial.suggest_float("learning_rate", 2e-4, 1e-2, log=True),
        "dice_weight": dice_weight,
        "focal_weight": 1 - dice_weight,
    }
    strength = trial.suggest_float("augmentation_strength", 0.0, 2.0)
    return changes | {"augmentation": strengthened(recipe.augmentation or Augmentation(), strength)}


def strengthened(augmentation: Augmentation, factor: float) -> dict[str, float]:
    """The ranges of an augmentation times a factor; flips stay as they are."""
    return {name: value * factor for name, value in dataclasses.asdict(augmentation).items() if name in _STRENGTHS}


def _write(output: Path, rows: list[dict[str, Any]], best: dict[str, Any]) -> None:
    with atomic_write(output / BEST) as temporary:
        temporary.write_text(json.dumps(best, indent=2) + "\n")
    with atomic_write(output / TRIALS) as temporary, temporary.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows({**row, "changes": json.dumps(row["changes"])} for row in rows)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Search for better settings of a recipe.")
    parser.add_argument("shards", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=10, help="of each trial")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with exit_on_input_error():
        recipe = changed_recipe(preset_recipe(given.preset), {"epochs": given.epochs})
        tune(given.shards, given.output, recipe=recipe, trials=given.trials, seed=given.seed)


if __name__ == "__main__":
    main()
