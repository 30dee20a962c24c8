"""A training run: from shards to the best network, with its history; taken up where it was cut off."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from numpy.typing import NDArray

from components.runtime.errors import InputError
from components.runtime.files import atomic_write, sha256_of
from components.slice.shards import shard_paths
from components.slice.split import Split
from components.train.checkpoint import Checkpoint, CheckpointFolder
from components.train.devices import distribution, is_chief
from components.train.epochs import EpochEnd
from components.train.events import EventFile
from components.train.examples import Survey, survey, training_batches, validation_slices
from components.train.losses import FocalDiceLoss, PooledDice
from components.train.network import build_network, flip_averaged
from components.train.precision import mixed_precision_policy
from components.train.recipe import Recipe
from components.train.record import TRAINING, Training
from components.train.replicas import fit_replicas

__all__ = ["MODEL", "TRAINING", "Training", "train"]

MODEL, CHECKPOINTS = "model.keras", "checkpoints"
_VALIDATION_SLICES = 256  # at most, each epoch


def train(
    shards: Path,
    output: Path,
    *,
    recipe: Recipe,
    seed: int = 0,
    tensorboard: Path | None = None,
    checkpoints: Path | None = None,
    strategy: tf.distribute.Strategy | None = None,
) -> Training:
    """Train a network and keep the weights of the epoch with the best validation Dice.

    After each epoch the run's state is written below `checkpoints`, in a folder named by what is trained: recipe,
    seed and shards. The same call again, after the process was killed, goes on from there.

    Several GPUs of the machine share each batch. So do several pods that make the same call with their own TF_CONFIG
    (https://www.tensorflow.org/guide/distributed_training); then only the leading one writes, and `checkpoints` is a
    folder that all of them see.

    Args:
        shards: output of slice.
        output: folder for `model.keras`, the best network in float32, and `training.json`.
        recipe: what to train, how, and how long.
        seed: of weights, order and augmentation.
        tensorboard: folder for event files.
        checkpoints: folder for the state of unfinished runs, by default inside `output`.
        strategy: over which devices the run spreads, by default what `distribution` finds.

    Raises:
        InputError: a parameter or a shard cannot be used, memory does not suffice, or the loss became NaN; then the
            best network so far is left with the checkpoints.
    """
    strategy = strategy or distribution()
    replicas = strategy.num_replicas_in_sync
    if recipe.batch_size < replicas:
        raise InputError(f"batch_size is {recipe.batch_size}; expected {replicas} or more, a slice for each GPU or pod")
    size = Split.read(shards).image_size
    found = survey(shards, size)
    keras.utils.set_random_seed(seed)
    policy = mixed_precision_policy() if recipe.mixed_precision else "float32"
    with strategy.scope():
        model = _network(recipe, size, policy)
        run = Training(recipe, size, seed, policy, model.count_params(), found.slices, found.with_lesion)
        _compile(model, recipe, steps=run.steps_per_epoch() * recipe.epochs)
    folder = CheckpointFolder((checkpoints or output / CHECKPOINTS) / _identity(run, shards))
    if not is_chief(strategy):
        _fit(model, run, shards, found, folder, None)
        return run
    print(run.introduction(), flush=True)
    if replicas > 1:
        print(f"each batch is shared by {replicas} devices", flush=True)
    with contextlib.closing(EventFile(tensorboard or output / "tensorboard")) as events:
        best = _fit(model, run, shards, found, folder, events)
    output.mkdir(parents=True, exist_ok=True)
    _save_network(output / MODEL, run, best)
    run.model_sha256 = sha256_of(output / MODEL)
    run.write(output)
    folder.remove()
    return run


def _identity(run: Training, shards: Path) -> str:
    """A name for what is trained, so that runs which share a folder never take up each other's checkpoints."""
    content = {
        "recipe": dataclasses.asdict(run.recipe),
        "seed": run.seed,
        "precision": run.precision,
        "shards": [
            (path.name, sha256_of(path)) for split in ("train", "validation") for path in shard_paths(shards, split)
        ],
    }
    return sha256(json.dumps(content).encode()).hexdigest()[:16]


def _fit(
    model: keras.Model, run: Training, shards: Path, found: Survey, folder: CheckpointFolder, events: EventFile | None
) -> list[NDArray]:
    """Train what is left to train; give the weights of the best epoch."""
    begun = folder.newest()
    if begun:
        _resume(model, run, begun, folder, events)
    done = begun.epoch if begun else 0
    validation = validation_slices(shards, run.image_size, _VALIDATION_SLICES)
    end = EpochEnd(run, validation, folder, events, best=begun.best if begun else [])
    if done < run.recipe.epochs:
        steps = run.steps_per_epoch()
        stream = training_batches(shards, run.image_size, found, run.recipe, seed=run.seed, skipped=done * steps)
        with _told_when_memory_ends(run):
            _run_epochs(model, stream, end, first=done, epochs=run.recipe.epochs, steps=steps)
    if end.broken:
        raise InputError(f"training: {end.broken}; {_kept_best(run, end.best, folder)}")
    return end.best


def _run_epochs(
    model: keras.Model, batches: tf.data.Dataset, end: EpochEnd, *, first: int, epochs: int, steps: int
) -> None:
    strategy = model.distribute_strategy if keras.backend.backend() == "tensorflow" else tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync > 1:
        fit_replicas(model, strategy, batches, first_epoch=first, epochs=epochs, steps=steps, callback=end)
        return
    model.fit(
        batches,
        initial_epoch=first,
        epochs=epochs,
        steps_per_epoch=steps,
        callbacks=[end],
        verbose=0,
        shuffle=False,  # the stream is
    )


def _resume(
    model: keras.Model, run: Training, begun: Checkpoint, folder: CheckpointFolder, events: EventFile | None
) -> None:
    model.set_weights(begun.weights)
    for variable, value in zip(model.optimizer.variables, begun.optimizer, strict=True):
        variable.assign(value)
    run.resume(begun.state, begun.epoch)
    if not events:
        return
    for epoch in range(begun.epoch):
        events.write(epoch, {name: series[epoch] for name, series in run.history.items()})
    print(f"going on after epoch {begun.epoch} of {run.recipe.epochs}, from {folder.folder}", flush=True)


def _kept_best(run: Training, best: list[NDArray], folder: CheckpointFolder) -> str:
    remedy = f"lower learning_rate ({run.recipe.learning_rate:g}), or look for scans with impossible values"
    if not best:
        return f"no epoch was finished; {remedy}"
    path = folder.folder / "best.keras"
    _save_network(path, run, best)
    return f"epoch {run.best_epoch}, validation Dice {run.best_val_dice:.3f}, is kept as {path}; {remedy}"


@contextlib.contextmanager
def _told_when_memory_ends(run: Training) -> Iterator[None]:
    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        batch, size = run.recipe.batch_size, run.image_size
        remedy = f"try batch_size={batch // 2}" if batch > 1 else "try a smaller image_size"
        raise InputError(
            f"training: out of memory with batches of {batch} slices of {size}×{size}; {remedy}"
        ) from error


def _network(recipe: Recipe, size: int, dtype: str) -> keras.Model:
    return build_network(
        size,
        filters=recipe.filters,
        window_hu=recipe.window_hu,
        window_max=recipe.window_max,
        batch_norm=recipe.batch_norm,
        dtype=dtype,
    )


def _compile(model: keras.Model, recipe: Recipe, steps: int) -> None:
    """Give the network its loss and optimizer, for a run of so many steps."""
    rate: Any = recipe.learning_rate
    if recipe.cosine_decay:
        warmup = min(50, steps // 10)
        rate = keras.optimizers.schedules.CosineDecay(
            recipe.learning_rate / 100, steps - warmup, warmup_target=recipe.learning_rate, warmup_steps=warmup
        )
    optimizer = (
        keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay)
        if recipe.weight_decay
        else keras.optimizers.Adam(rate)
    )
    loss = FocalDiceLoss(
        recipe.focal_weight, recipe.focal_alpha, recipe.focal_gamma, recipe.dice_weight, recipe.dice_per
    )
    # XLA was three times slower than TensorFlow's own kernels on a CPU.
    model.compile(optimizer, loss, metrics=[PooledDice()], jit_compile=keras.backend.backend() == "jax")
    optimizer.build(model.trainable_variables)  # a checkpoint fills its variables, and several replicas need them


def _save_network(path: Path, run: Training, weights: list[NDArray]) -> None:
    """Write a network in float32 whatever the training's policy, so that any machine can serve it."""
    network = _network(run.recipe, run.image_size, "float32")
    network.set_weights(weights)
    if run.recipe.flip_averaging:
        network = flip_averaged(network)
    with atomic_write(path) as temporary:
        whole = temporary.with_suffix(".keras")  # Keras tells the format by the ending
        network.save(whole)
        whole.replace(temporary)
