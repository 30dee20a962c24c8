"""What a training run knows of itself while it goes on, and leaves behind: `training.json`."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.runtime.files import atomic_write
from components.train.recipe import Recipe

TRAINING = "training.json"
_BAR_CELLS = 20
_GROWING = ("history", "best_epoch", "best_val_dice", "seconds", "epoch_seconds", "resumed_after")


@dataclass
class Training:
    """What a run came to: the content of `training.json`.

    Attributes:
        history: values by epoch: `loss` and `dice` of the training slices as augmented; `val_loss`, `val_dice` and
            `val_accuracy`, the share of grid cells on the right side of 0.5, by which nothing is chosen.
        best_epoch: the one whose weights were kept, from 1; 0 before the first.
        best_val_dice: its validation Dice.
        seconds: wall time of the run, without that of an unfinished epoch which was trained again.
        epoch_seconds: wall time of each epoch with its validation.
        resumed_after: epochs after which the run was taken up again, one for each time it was cut off.
        model_sha256: of `model.keras`.
    """

    recipe: Recipe
    image_size: int
    seed: int
    precision: str
    parameters: int
    slices: int
    slices_with_lesion: int
    history: dict[str, list[float]] = field(
        default_factory=lambda: {"loss": [], "dice": [], "val_loss": [], "val_dice": [], "val_accuracy": []}
    )
    best_epoch: int = 0
    best_val_dice: float = -1.0
    seconds: float = 0.0
    epoch_seconds: list[float] = field(default_factory=list)
    resumed_after: list[int] = field(default_factory=list)
    model_sha256: str = ""

    def summary(self) -> dict[str, float]:
        """The numbers that stand for the run in a list of runs."""
        return {
            "val_dice": self.best_val_dice,
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
            "slices": self.slices,
        }

    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return -(-(self.recipe.slices_per_epoch or self.slices) // self.recipe.batch_size)

    def state(self) -> dict[str, Any]:
        """What grows with the epochs, for a checkpoint."""
        return {name: getattr(self, name) for name in _GROWING}

    def resume(self, state: Mapping[str, Any], epoch: int) -> None:
        """Go on from the state of a checkpoint that was written after that epoch."""
        for name in _GROWING:
            setattr(self, name, state[name])
        self.resumed_after.append(epoch)

    def write(self, folder: Path) -> None:
        """Write `training.json`."""
        with atomic_write(folder / TRAINING) as temporary:
            temporary.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n")

    def introduction(self) -> str:
        """What is about to be trained, in one line."""
        recipe = self.recipe
        return (
            f"training on {self.slices} slices, {self.slices_with_lesion} with lesion, "
            f"{self.image_size}×{self.image_size}; {self.parameters:,} parameters, {self.precision}; "
            f"{recipe.epochs} epochs of {self.steps_per_epoch()} batches of {recipe.batch_size}"
        )

    def epoch_line(self, improved: bool) -> str:
        """The last epoch in words, such as `epoch 3/30 [##........] loss 0.31, ...`."""
        done, of = len(self.history["loss"]), self.recipe.epochs
        bar = "#" * (done * _BAR_CELLS // of)
        last = {name: series[-1] for name, series in self.history.items()}
        return (
            f"epoch {done:>{len(str(of))}}/{of} [{bar:.<{_BAR_CELLS}}] loss {last['loss']:.4f}, "
            f"Dice {last['dice']:.3f}, validation Dice {last['val_dice']:.3f}{' (best)' if improved else ''}, "
            f"{self.epoch_seconds[-1]:.1f} s"
        )
