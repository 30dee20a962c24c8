"""What happens after each epoch: validation, the best weights, a checkpoint, one line and one event."""

import math
import time
from typing import Any

import keras
from numpy.typing import NDArray

from components.train.checkpoint import Checkpoint, CheckpointFolder
from components.train.events import EventFile
from components.train.examples import ValidationSlices
from components.train.record import Training
from components.train.validation import mean_case_dice, predict_slices


class EpochEnd(keras.callbacks.Callback):
    """Validates, remembers the best weights, writes a checkpoint, and tells of each epoch.

    A loss that is no number ends the run; nothing of that epoch is kept. Without an event file, as in all pods of a
    run but the leading one, nothing is written or told.

    Attributes:
        best: weights of the best epoch so far; empty before the first.
        broken: what was not finite, in words; empty in a healthy run.
    """

    def __init__(
        self,
        run: Training,
        validation: ValidationSlices,
        checkpoints: CheckpointFolder,
        events: EventFile | None,
        best: list[NDArray],
    ):
        super().__init__()
        self.best = best
        self.broken = ""
        self._run = run
        self._validation = validation
        self._checkpoints = checkpoints
        self._events = events
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """See the class."""
        values = {**{name: float(value) for name, value in (logs or {}).items()}, **self._validate()}
        broken = [name for name in self._run.history if not math.isfinite(values[name])]
        if broken:
            self.broken = f"{' and '.join(broken)} of epoch {epoch + 1} {'is' if len(broken) == 1 else 'are'} no number"
            self.model.stop_training = True
            return
        improved = self._note(epoch, values)
        if self._events:
            self._events.write(epoch, values)
            self._write_checkpoint(epoch)
            print(self._run.epoch_line(improved), flush=True)

    def _validate(self) -> dict[str, float]:
        probability = predict_slices(self.model, self._validation.slices_hu)
        share = self._validation.lesion.astype("float32") / 255
        return {
            "val_loss": float(self.model.loss(share, probability)),
            "val_dice": mean_case_dice(probability, self._validation),
            "val_accuracy": float(((probability >= 0.5) == (share >= 0.5)).mean()),
        }

    def _note(self, epoch: int, values: dict[str, float]) -> bool:
        run = self._run
        improved = values["val_dice"] > run.best_val_dice
        if improved:
            run.best_epoch, run.best_val_dice, self.best = epoch + 1, values["val_dice"], self.model.get_weights()
        for name, series in run.history.items():
            series.append(values[name])
        seconds = time.monotonic() - self._started
        self._started += seconds
        run.epoch_seconds.append(round(seconds, 2))
        run.seconds = round(run.seconds + seconds, 1)
        return improved

    def _write_checkpoint(self, epoch: int) -> None:
        optimizer = [keras.ops.convert_to_numpy(variable) for variable in self.model.optimizer.variables]
        weights = self.model.get_weights()
        self._checkpoints.write(Checkpoint(epoch + 1, weights, optimizer, self.best, self._run.state()))
