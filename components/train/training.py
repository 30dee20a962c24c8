"""A training run, from shards to the best network, resumed from a checkpoint if it was interrupted."""

import contextlib
import dataclasses
import json
import logging
from hashlib import sha256
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from numpy.typing import NDArray

from components.runtime.errors import InputError
from components.runtime.files import sha256_of
from components.runtime.seed import check_seed
from components.slice.full_disk import translate_disk_errors
from components.slice.shards import shard_paths
from components.slice.split import Split
from components.train import MODEL_FILE
from components.train.batches import SliceCounts, count_slices, training_batches
from components.train.checkpoint import CheckpointFolder
from components.train.devices import fit, is_chief, mixed_precision_policy, select_strategy
from components.train.epochs import EpochEnd
from components.train.losses import FocalDiceLoss, PooledDice
from components.train.network import average_flips, build_network, save_model
from components.train.recipe import Recipe
from components.train.record import Training
from components.train.validation import read_validation_slices

_log = logging.getLogger(__name__)
_VALIDATION_SLICES = 256  # at most, in each epoch


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

    Each epoch ends with a checkpoint in a subfolder of `checkpoints` that is named by recipe, seed and shards. After
    an interruption, the same call resumes there.

    Several GPUs share each batch, as do pods that make the same call with their own TF_CONFIG
    (https://www.tensorflow.org/guide/distributed_training); only the chief writes, and all pods must see `checkpoints`.

    Args:
        shards: output of slice.
        output: folder for `model.keras`, the best network in float32, and `training.json`.
        recipe: all settings.
        seed: of weights, order and augmentation.
        tensorboard: folder for event files, by default in `output`.
        checkpoints: folder for checkpoints, by default in `output`.
        strategy: distribution over devices, by default that of `select_strategy`.

    Raises:
        InputError: invalid parameter or shard, insufficient memory, or a loss that is not finite, in which case the
            best network so far is saved beside the checkpoints.
    """
    check_seed(seed)
    strategy = strategy or select_strategy()
    replicas = strategy.num_replicas_in_sync
    if recipe.batch_size < replicas:
        raise InputError(f"batch_size is {recipe.batch_size}; expected {replicas} or more, a slice for each GPU or pod")
    size = Split.read(shards).image_size
    counts = count_slices(shards, size)
    keras.utils.set_random_seed(seed)
    policy = mixed_precision_policy() if recipe.mixed_precision else "float32"
    with strategy.scope():
        model = build_network(size, recipe, dtype=policy)
        run = Training(recipe, size, seed, policy, model.count_params(), counts.total, counts.with_lesion)
        compile_network(model, recipe, steps=run.steps_per_epoch() * recipe.epochs)
    folder = CheckpointFolder((checkpoints or output / "checkpoints") / _fingerprint(run, shards))
    if not is_chief(strategy):
        _fit(model, run, shards, counts, folder)
        return run
    _log.info("%s", run.introduction())
    if replicas > 1:
        _log.info("%d devices share each batch", replicas)
    with translate_disk_errors():
        events = tf.summary.create_file_writer(str(tensorboard or output / "tensorboard"))
        with contextlib.closing(events):
            best = _fit(model, run, shards, counts, folder, events)
    output.mkdir(parents=True, exist_ok=True)
    _save_network(output / MODEL_FILE, run, best)
    run.model_sha256 = sha256_of(output / MODEL_FILE)
    run.write(output)
    folder.remove()
    return run


def compile_network(model: keras.Model, recipe: Recipe, steps: int) -> None:
    """Add the recipe's loss and optimizer, for a run of `steps` training steps."""
    rate: Any = recipe.learning_rate
    if recipe.cosine_decay:
        warmup = min(50, steps // 10)
        rate = keras.optimizers.schedules.CosineDecay(
            recipe.learning_rate / 100, steps - warmup, warmup_target=recipe.learning_rate, warmup_steps=warmup
        )
    decay = recipe.weight_decay
    optimizer = keras.optimizers.AdamW(rate, weight_decay=decay) if decay else keras.optimizers.Adam(rate)
    # XLA was three times slower than TensorFlow's own kernels on a CPU.
    model.compile(
        optimizer, FocalDiceLoss(recipe), metrics=[PooledDice()], jit_compile=keras.backend.backend() == "jax"
    )
    optimizer.build(model.trainable_variables)  # checkpoints and replicas need its variables


def _fingerprint(run: Training, shards: Path) -> str:
    """Return a digest of recipe, seed, precision and shards, to separate the checkpoints of different runs."""
    paths = [path for split in ("train", "validation") for path in shard_paths(shards, split)]
    content = {
        "recipe": dataclasses.asdict(run.recipe),
        "seed": run.seed,
        "precision": run.precision,
        "shards": [(path.name, sha256_of(path)) for path in paths],
    }
    return sha256(json.dumps(content).encode()).hexdigest()[:16]


def _fit(
    model: keras.Model, run: Training, shards: Path, counts: SliceCounts, folder: CheckpointFolder, events: Any = None
) -> list[NDArray]:
    """Train the remaining epochs and return the weights of the best one."""
    recipe, size, steps = run.recipe, run.image_size, run.steps_per_epoch()
    end = EpochEnd(run, read_validation_slices(shards, size, _VALIDATION_SLICES), folder, events)
    first = end.resume(model)
    batches = training_batches(shards, size, counts, recipe, seed=run.seed, first_batch=first * steps)
    try:
        fit(model, batches, first_epoch=first, epochs=recipe.epochs, steps=steps, callback=end)
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        batch = recipe.batch_size
        remedy = f"try batch_size={batch // 2}" if batch > 1 else "try a smaller image_size"
        message = f"training: out of memory with batches of {batch} slices of {size}×{size}; {remedy}"
        raise InputError(message) from error
    if end.non_finite:
        raise InputError(f"training: {end.non_finite}; {_save_best(run, end.best, folder)}")
    return end.best


def _save_best(run: Training, best: list[NDArray], folder: CheckpointFolder) -> str:
    """Save the best network beside the checkpoints, and return the rest of the error message."""
    remedy = f"lower learning_rate ({run.recipe.learning_rate:g}), or check the scans for impossible values"
    if not best:
        return f"no epoch finished; {remedy}"
    path = folder.folder / "best.keras"
    _save_network(path, run, best)
    return f"saved epoch {run.best_epoch}, validation Dice {run.best_val_dice:.3f}, as {path}; {remedy}"


def _save_network(path: Path, run: Training, weights: list[NDArray]) -> None:
    """Save the network in float32, independent of the training's precision."""
    keras.utils.clear_session(free_memory=False)  # restarts the numbers in layer names, which are in the file
    network = build_network(run.image_size, run.recipe)
    network.set_weights(weights)
    if run.recipe.flip_averaging:
        network = average_flips(network)
    save_model(network, path)
