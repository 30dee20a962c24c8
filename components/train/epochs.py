"""The end of an epoch: validation, best weights, checkpoint, log line and TensorBoard event."""

import logging
import math
import time
from typing import Any

import keras
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.framework.summary_pb2 import SummaryMetadata

from components.slice.full_disk import translate_disk_errors
from components.train.checkpoint import Checkpoint, CheckpointFolder
from components.train.record import Training
from components.train.validation import ValidationSlices, mean_case_dice, predict_on_grid

_log = logging.getLogger(__name__)
# Written with `tf.summary.write`, because `tf.summary.scalar` requires the tensorboard package.
_SCALAR = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="scalars"))


class EpochEnd(keras.callbacks.Callback):
    """Validates the network, tracks the best weights, and writes a checkpoint, TensorBoard events and a log line.

    A value that is not finite stops the run and discards the epoch. Without `events`, a `tf.summary.SummaryWriter`, as
    in every pod but the chief, nothing is written or logged.

    Attributes:
        best: weights of the best epoch so far; empty before the first.
        non_finite: which values of which epoch were not finite; empty in a healthy run.
    """

    def __init__(self, run: Training, validation: ValidationSlices, checkpoints: CheckpointFolder, events: Any):
        super().__init__()
        self.best: list[NDArray] = []
        self.non_finite = ""
        self._run = run
        self._validation = validation
        self._checkpoints = checkpoints
        self._events = events
        self._started = time.monotonic()

    def resume(self, model: keras.Model) -> int:
        """Restore model and run from the newest checkpoint, and return the number of finished epochs."""
        checkpoint = self._checkpoints.read_newest()
        if not checkpoint:
            return 0
        model.set_weights(checkpoint.weights)
        for variable, value in zip(model.optimizer.variables, checkpoint.optimizer, strict=True):
            variable.assign(value)
        self.best = checkpoint.best
        self._run.resume(checkpoint.state, checkpoint.epoch)
        if self._events:
            for epoch in range(checkpoint.epoch):
                self._write_events(epoch)
            folder = self._checkpoints.folder
            _log.info("resuming after epoch %d of %d from %s", checkpoint.epoch, self._run.recipe.epochs, folder)
        return checkpoint.epoch

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Handle the end of an epoch, counted from 0."""
        values = {**{name: float(value) for name, value in (logs or {}).items()}, **self._validate()}
        non_finite = [name for name in self._run.history if not math.isfinite(values[name])]
        if non_finite:
            self.non_finite = f"{', '.join(non_finite)} not finite in epoch {epoch + 1}"
            self.model.stop_training = True
            return
        seconds = time.monotonic() - self._started
        self._started += seconds
        improved = self._run.add_epoch(values, seconds)
        if improved:
            self.best = self.model.get_weights()
        if self._events:
            self._write_events(epoch)
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

    def _write_events(self, epoch: int) -> None:
        with translate_disk_errors(), self._events.as_default():
            for name, series in self._run.history.items():
                tf.summary.write(name, series[epoch], step=epoch, metadata=_SCALAR)
            self._events.flush()

    def _write_checkpoint(self, epochs: int) -> None:
        optimizer = [keras.ops.convert_to_numpy(variable) for variable in self.model.optimizer.variables]
        weights = self.model.get_weights()
        self._checkpoints.write(Checkpoint(epochs, weights, optimizer, self.best, self._run.state()))
