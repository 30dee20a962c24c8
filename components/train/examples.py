"""The stream of training batches from the shards: shuffled, with lesion drawn more often, augmented.

Every draw follows from the seed and the batch's number, so that a run that is taken up again sees what it would
have seen.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from components.runtime.errors import InputError
from components.slice.shards import parse_example, read_split, shard_paths
from components.train.augmentation import augment
from components.train.recipe import Recipe

_HELD_BYTES = 2 << 30  # decoded training slices up to this size stay in memory
_SHUFFLED_BYTES = 512 << 20


@dataclass(frozen=True)
class Survey:
    """What the training shards hold: all slices, and those with lesion."""

    slices: int
    with_lesion: int


def survey(shards: Path, size: int) -> Survey:
    """Read the training shards once, to the end.

    Raises:
        InputError: a shard cannot be read, or no training slice has lesion.
    """
    slices = with_lesion = 0
    for record in read_split(shards, "train", size):
        slices += 1
        with_lesion += bool(record["lesion"].any())
    if not with_lesion:
        raise InputError(
            f"{shards / 'train'}: none of {slices} training slices has lesion; "
            "check that the masks are the right ones, or give more cases"
        )
    return Survey(slices, with_lesion)


def training_batches(
    shards: Path, size: int, found: Survey, recipe: Recipe, *, seed: int, skipped: int = 0
) -> tf.data.Dataset:
    """Endless batches of slices and lesion shares.

    Args:
        shards: output of slice.
        size: edge of the grid.
        found: the survey of these shards.
        recipe: sampling, augmentation and batch size.
        seed: of the order and the augmentation.
        skipped: batches that an earlier part of the run has used up.

    Returns:
        (batch, size, size) float32 HU, and the lesion's share of each cell from 0 to 1, of the same shape.
    """
    records = _records(shards, size, found)
    everything = _shuffled(records, size, found.slices, seed)
    if recipe.foreground_share:
        lesion = records.filter(lambda hu, share: tf.reduce_any(share > 0))
        lesion = _shuffled(lesion, size, found.with_lesion, seed + 1)
        weights = [recipe.foreground_share, 1 - recipe.foreground_share]
        everything = tf.data.Dataset.sample_from_datasets([lesion, everything], weights, seed=seed)
    # One pass a epoch may end in a smaller batch; a stream of fixed length never does.
    batches = everything.batch(recipe.batch_size).enumerate().skip(skipped)

    def prepare(number: tf.Tensor, batch: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, tf.Tensor]:
        slices_hu, share = tf.cast(batch[0], tf.float32), tf.cast(batch[1], tf.float32) / 255
        if recipe.augmentation is not None:
            draw = tf.stack([tf.constant(seed, tf.int64), number])
            slices_hu, share = augment(slices_hu, share, draw, recipe.augmentation)
        return slices_hu, share

    prepared = batches.map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    # Several pods would otherwise share out the files, and each would see some cases alone.
    parted = tf.data.Options()
    parted.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return prepared.prefetch(tf.data.AUTOTUNE).with_options(parted)


@dataclass(frozen=True)
class ValidationSlices:
    """Validation slices in memory: (n, size, size) HU and lesion shares, and the case of each."""

    slices_hu: NDArray[np.int16]
    lesion: NDArray[np.uint8]
    case_ids: NDArray[np.str_]


def validation_slices(shards: Path, size: int, at_most: int) -> ValidationSlices:
    """Take every n-th slice of the validation shards, so that validation takes a bounded part of the time."""
    count = sum(1 for _ in read_split(shards, "validation", size))
    step = -(-count // at_most)
    taken = [record for index, record in enumerate(read_split(shards, "validation", size)) if index % step == 0]
    return ValidationSlices(
        np.stack([record["slice_hu"] for record in taken]),
        np.stack([record["lesion"] for record in taken]),
        np.array([bytes(record["case_id"]).decode() for record in taken]),
    )


def _records(shards: Path, size: int, found: Survey) -> tf.data.Dataset:
    """The decoded slices of the training shards, in order."""
    files = [str(path) for path in shard_paths(shards, "train")]

    def decode(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = parse_example(record, size)
        return example["slice_hu"], example["lesion"]

    records = tf.data.TFRecordDataset(files).map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return records.cache() if found.slices * _bytes(size) <= _HELD_BYTES else records


def _shuffled(records: tf.data.Dataset, size: int, count: int, seed: int) -> tf.data.Dataset:
    return records.shuffle(min(count, max(1, _SHUFFLED_BYTES // _bytes(size))), seed=seed).repeat()


def _bytes(size: int) -> int:
    return size * size * 3  # int16 HU and uint8 lesion
