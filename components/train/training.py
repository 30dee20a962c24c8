"""A training run: from shards to the best checkpoint, with its history."""

import contextlib
import dataclasses
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras

from components.ct.atomic import written_whole
from components.ct.cases import sha256_of
from components.ct.errors import InputError
from components.slice.split import Split
from components.train.events import EventFile
from components.train.examples import ValidationSlices, survey, training_batches, validation_slices
from components.train.losses import FocalDiceLoss, PooledDice
from components.train.network import build_network
from components.train.precision import mixed_precision_policy
from components.train.recipe import Recipe
from components.train.validation import mean_case_dice, predict_slices

MODEL, TRAINING = "model.keras", "training.json"
_VALIDATION_SLICES = 256  # at most, each epoch
_BAR_CELLS = 20


@dataclass
class Training:
    """What a run came to: the content of `training.json`.

    Attributes:
        history: values by epoch: `loss` and `dice` of the training slices as augmented, `val_loss`, `val_dice`.
        best_epoch: the one whose weights were kept, from 1; 0 before the first.
        best_val_dice: its validation Dice.
        seconds: wall time of the run.
        epoch_seconds: wall time of each epoch with its validation.
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
        default_factory=lambda: {"loss": [], "dice": [], "val_loss": [], "val_dice": []}
    )
    best_epoch: int = 0
    best_val_dice: float = -1.0
    seconds: float = 0.0
    epoch_seconds: list[float] = field(default_factory=list)
    model_sha256: str = ""

    def summary(self) -> dict[str, float]:
        """The numbers that stand for the run in a list of runs."""
        return {
            "val_dice": self.best_val_dice,
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
            "slices": self.slices,
        }


def train(shards: Path, output: Path, *, recipe: Recipe, seed: int = 0, tensorboard: Path | None = None) -> Training:
    """Train a network and keep the weights of the epoch with the best validation Dice.

    Args:
        shards: output of slice.
        output: folder for `model.keras`, the best network in float32, and `training.json`.
        recipe: what to train, how, and how long.
        seed: of weights, order and augmentation.
        tensorboard: folder for event files.

    Raises:
        InputError: a parameter or a shard cannot be used.
    """
    started = time.monotonic()
    _require_usable(recipe)
    size = Split.read(shards).image_size
    found = survey(shards, size)
    validation = validation_slices(shards, size, _VALIDATION_SLICES)
    keras.utils.set_random_seed(seed)
    policy = mixed_precision_policy()
    model = _compiled(recipe, size, policy, steps=_steps_per_epoch(recipe, found.slices) * recipe.epochs)
    run = Training(recipe, size, seed, policy, model.count_params(), found.slices, found.with_lesion)
    _announce(run)
    output.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(EventFile(tensorboard or output / "tensorboard")) as events:
        model.fit(
            training_batches(shards, size, found, recipe, seed=seed),
            epochs=recipe.epochs,
            steps_per_epoch=_steps_per_epoch(recipe, found.slices),
            callbacks=[*_averaging(recipe), _EpochEnd(run, output, validation, events)],
            verbose=0,
            shuffle=False,  # the stream is
        )
    run.seconds = round(time.monotonic() - started, 1)
    run.model_sha256 = sha256_of(output / MODEL)
    with written_whole(output / TRAINING) as temporary:
        temporary.write_text(json.dumps(dataclasses.asdict(run), indent=2) + "\n")
    return run


def _require_usable(recipe: Recipe) -> None:
    for name in ("epochs", "batch_size"):
        if getattr(recipe, name) < 1:
            raise InputError(f"{name} is {getattr(recipe, name)}; expected 1 or more")


def _steps_per_epoch(recipe: Recipe, slices: int) -> int:
    return -(-(recipe.slices_per_epoch or slices) // recipe.batch_size)


def _compiled(recipe: Recipe, size: int, policy: str, steps: int) -> keras.Model:
    """The network with its loss and optimizer, for a run of so many steps."""
    model = _network(recipe, size, policy)
    rate: Any = recipe.learning_rate
    if recipe.cosine_decay:
        warmup = min(50, steps // 10)
        rate = keras.optimizers.schedules.CosineDecay(
            recipe.learning_rate / 100, steps - warmup, warmup_target=recipe.learning_rate, warmup_steps=warmup
        )
    ema = {"use_ema": recipe.ema_momentum is not None, "ema_momentum": recipe.ema_momentum or 0.99}
    optimizer = (
        keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay, **ema)
        if recipe.weight_decay
        else keras.optimizers.Adam(rate, **ema)
    )
    loss = FocalDiceLoss(
        recipe.focal_weight, recipe.focal_alpha, recipe.focal_gamma, recipe.dice_weight, recipe.dice_per
    )
    # XLA was three times slower than TensorFlow's own kernels on a CPU.
    model.compile(optimizer, loss, metrics=[PooledDice()], jit_compile=keras.backend.backend() == "jax")
    return model


def _network(recipe: Recipe, size: int, dtype: str) -> keras.Model:
    return build_network(
        size, filters=recipe.filters, window_hu=recipe.window_hu, batch_norm=recipe.batch_norm, dtype=dtype
    )


def _averaging(recipe: Recipe) -> list[keras.callbacks.Callback]:
    """Between epochs the averaged weights are in the model; it comes first, so that the others see them."""
    return [] if recipe.ema_momentum is None else [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)]


def _announce(run: Training) -> None:
    recipe = run.recipe
    print(
        f"training on {run.slices} slices, {run.slices_with_lesion} with lesion, {run.image_size}×{run.image_size}; "
        f"{run.parameters:,} parameters, {run.precision}; "
        f"{recipe.epochs} epochs of {_steps_per_epoch(recipe, run.slices)} batches of {recipe.batch_size}",
        flush=True,
    )


class _EpochEnd(keras.callbacks.Callback):
    """Validates, keeps the best weights, and tells of each epoch in one line and one event."""

    def __init__(self, run: Training, output: Path, validation: ValidationSlices, events: EventFile):
        super().__init__()
        self._run = run
        self._output = output
        self._validation = validation
        self._events = events
        # In float32 whatever the training's policy, so that any machine can serve it.
        self._served = _network(run.recipe, run.image_size, "float32")
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        probability = predict_slices(self.model, self._validation.slices_hu)
        share = self._validation.lesion.astype("float32") / 255
        values = {name: float(value) for name, value in (logs or {}).items()}
        values["val_loss"] = float(self.model.loss(share, probability))
        values["val_dice"] = mean_case_dice(probability, self._validation)
        improved = values["val_dice"] > self._run.best_val_dice
        if improved:
            self._run.best_epoch, self._run.best_val_dice = epoch + 1, values["val_dice"]
            self._save()
        for name, series in self._run.history.items():
            series.append(values[name])
        self._events.write(epoch, values)
        seconds = time.monotonic() - self._started
        self._started += seconds
        self._run.epoch_seconds.append(round(seconds, 2))
        print(epoch_line(self._run, improved), flush=True)

    def _save(self) -> None:
        self._served.set_weights(self.model.get_weights())
        with written_whole(self._output / f"best-{MODEL}") as temporary:
            whole = temporary.with_suffix(".keras")  # Keras tells the format by the ending
            self._served.save(whole)
            whole.replace(temporary)
        (self._output / f"best-{MODEL}").replace(self._output / MODEL)


def epoch_line(run: Training, improved: bool) -> str:
    """The last epoch of a run in words, such as `epoch 3/30 [##........] loss 0.31, ...`."""
    done, of = len(run.history["loss"]), run.recipe.epochs
    bar = "#" * (done * _BAR_CELLS // of)
    last = {name: series[-1] for name, series in run.history.items()}
    return (
        f"epoch {done:>{len(str(of))}}/{of} [{bar:.<{_BAR_CELLS}}] loss {last['loss']:.4f}, "
        f"Dice {last['dice']:.3f}, validation Dice {last['val_dice']:.3f}{' (best)' if improved else ''}, "
        f"{run.epoch_seconds[-1]:.1f} s"
    )
