"""The record of a training run: `training.json`, its log lines, and its HTML report."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.report.page import write_page
from components.report.plots import plot_training_curves
from components.runtime.files import atomic_write
from components.train import TRAINING_FILE
from components.train.recipe import Recipe

_BAR_CELLS = 20
_STATE = ("history", "best_epoch", "best_val_dice", "seconds", "epoch_seconds", "resumed_after")


@dataclass
class Training:
    """A training run, the content of `training.json`."""

    recipe: Recipe
    image_size: int
    seed: int
    precision: str
    parameters: int
    slices: int  # number of training slices
    slices_with_lesion: int
    # By epoch: loss and dice of the augmented training slices, and the validation values. val_accuracy is the share
    # of grid cells on the correct side of 0.5, and is only recorded.
    history: dict[str, list[float]] = field(
        default_factory=lambda: {"loss": [], "dice": [], "val_loss": [], "val_dice": [], "val_accuracy": []}
    )
    best_epoch: int = 0  # the epoch whose weights are kept, from 1; 0 before the first
    best_val_dice: float = -1.0
    seconds: float = 0.0  # wall time of all finished epochs
    epoch_seconds: list[float] = field(default_factory=list)  # including validation
    resumed_after: list[int] = field(default_factory=list)  # number of finished epochs at each resumption
    model_sha256: str = ""  # of `model.keras`

    def summary(self) -> dict[str, float]:
        """The step's metrics."""
        best = {"val_dice": self.best_val_dice, "best_epoch": self.best_epoch}
        return {**best, "seconds": self.seconds, "slices": self.slices}

    def steps_per_epoch(self) -> int:
        """The number of batches in an epoch."""
        return -(-(self.recipe.slices_per_epoch or self.slices) // self.recipe.batch_size)

    def add_epoch(self, values: Mapping[str, float], seconds: float) -> bool:
        """Append an epoch to the history, and return whether it is the best one so far."""
        for name, series in self.history.items():
            series.append(values[name])
        improved = values["val_dice"] > self.best_val_dice
        if improved:
            self.best_epoch, self.best_val_dice = len(self.history["loss"]), values["val_dice"]
        self.epoch_seconds.append(round(seconds, 2))
        self.seconds = round(self.seconds + seconds, 1)
        return improved

    def state(self) -> dict[str, Any]:
        """The part that changes with each epoch, for a checkpoint."""
        return {name: getattr(self, name) for name in _STATE}

    def resume(self, state: Mapping[str, Any], epoch: int) -> None:
        """Restore the state of a checkpoint written after `epoch` epochs."""
        for name in _STATE:
            setattr(self, name, state[name])
        self.resumed_after.append(epoch)

    def write(self, folder: Path) -> None:
        """Write `training.json`."""
        with atomic_write(folder / TRAINING_FILE) as temporary:
            temporary.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n")

    def introduction(self) -> str:
        """A log line with data, network and length."""
        recipe = self.recipe
        return (
            f"training on {self.slices} slices, {self.slices_with_lesion} with lesion, "
            f"{self.image_size}×{self.image_size}; {self.parameters:,} parameters, {self.precision}; "
            f"{recipe.epochs} epochs of {self.steps_per_epoch()} batches of {recipe.batch_size}"
        )

    def epoch_line(self, improved: bool) -> str:
        """A log line for the last epoch, such as `epoch 3/30 [##........] loss 0.31, ...`."""
        epoch, total = len(self.history["loss"]), self.recipe.epochs
        bar = "#" * (epoch * _BAR_CELLS // total)
        last = {name: series[-1] for name, series in self.history.items()}
        return (
            f"epoch {epoch:>{len(str(total))}}/{total} [{bar:.<{_BAR_CELLS}}] loss {last['loss']:.4f}, "
            f"Dice {last['dice']:.3f}, validation Dice {last['val_dice']:.3f}{' (best)' if improved else ''}, "
            f"{self.epoch_seconds[-1]:.1f} s"
        )


def write_report(path: Path, run: Training, preset: str) -> None:
    """Write the HTML report of a finished run of a preset."""
    settings = dataclasses.asdict(run.recipe)
    if augmentation := settings["augmentation"]:
        del settings["augmentation"]
        settings |= {f"augmentation.{name}": value for name, value in augmentation.items()}
    write_page(
        path,
        Path(__file__).parent / "report.html.jinja",
        run=run,
        preset=preset,
        settings=settings.items(),
        curves=plot_training_curves(run.history, run.best_epoch),
    )
