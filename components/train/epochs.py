"""The end of an epoch: validation, best weights, checkpoint, log line and TensorBoard event."""

import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.framework.summary_pb2 import Summary
from tensorflow.core.util.event_pb2 import Event

from components.train.checkpoint import Checkpoint, CheckpointFolder
from components.train.record import Training
from components.train.validation import ValidationSlices, mean_case_dice, predict_on_grid

_log = logging.getLogger(__name__)


class EventFile:
    """A new TensorBoard event file, a TFRecord of `Event` messages, written without the tensorboard package."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        now = time.time()
        self._writer = tf.io.TFRecordWriter(str(folder / f"events.out.tfevents.{int(now)}.train"))
        self._write(Event(wall_time=now, file_version="brain.Event:2"))

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Append the scalars of one epoch."""
        values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def _write(self, event: Event) -> None:
        self._writer.write(event.SerializeToString())
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


class EpochEnd(keras.callbacks.Callback):
    """Validates the network, tracks the best weights, and writes a checkpoint, an event and a log line.

    A value that is not finite stops the run and discards the epoch. Without an event file, as in every pod but the
    chief, nothing is written or logged.

    Attributes:
        best: weights of the best epoch so far; empty before the first.
        non_finite: which values of which epoch were not finite; empty in a healthy run.
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
        self.non_finite = ""
        self._run = run
        self._validation = validation
        self._checkpoints = checkpoints
        self._events = events
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Handle the end of an epoch, counted from 0."""
        values = {**{name: float(value) for name, value in (logs or {}).items()}, **self._validate()}
        non_finite = [name for name in self._run.history if not math.isfinite(values[name])]
        if non_finite:
            self.non_finite = f"{', '.join(non_finite)} not finite in epoch {epoch + 1}"
            self.model.stop_training = True
            return
        improved = values["val_dice"] > self._run.best_val_dice
        if improved:
            self.best = self.model.get_weights()
        seconds = time.monotonic() - self._started
        self._started += seconds
        self._run.add_epoch(values, seconds)
        if self._events:
            self._events.write(epoch, values)
            self._write_checkpoint(epoch + 1)
            _log.info("%s", self._run.epoch_line(improved))

    def _validate(self) -> dict[str, float]:
        probability = predict_on_grid(self.model, self._validation.slices_hu)
        share = self._validation.lesion.astype("float32") / 255
        return {
            "val_loss": float(self.model.loss(share, probability)),
            "val_dice": mean_case_dice(probability, self._validation),
            "val_accuracy": float(((probability >= 0.5) == (share >= 0.5)).mean()),
        }

    def _write_checkpoint(self, epochs: int) -> None:
        optimizer = [keras.ops.convert_to_numpy(variable) for variable in self.model.optimizer.variables]
        weights = self.model.get_weights()
        self._checkpoints.write(Checkpoint(epochs, weights, optimizer, self.best, self._run.state()))
