"""Training batches from the shards: shuffled, with lesion slices oversampled, augmented.

Seed and batch number determine every random choice, so a resumed run sees the batches of an uninterrupted one.
"""

from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from components.runtime.errors import InputError
from components.slice.shards import parse_example, read_split, shard_paths
from components.train.augmentation import augment
from components.train.recipe import Recipe

_CACHE_BYTES = 2 << 30  # cache decoded slices up to this size in memory
_SHUFFLE_BYTES = 512 << 20


@dataclass(frozen=True)
class SliceCounts:
    """Number of training slices, in total and with lesion."""

    total: int
    with_lesion: int


def count_slices(shards: Path, size: int) -> SliceCounts:
    """Count the training slices, and check that every shard can be read.

    Raises:
        InputError: a shard cannot be read, or no slice has lesion.
    """
    has_lesion = [bool(record["lesion"].any()) for record in read_split(shards, "train", size)]
    if not any(has_lesion):
        raise InputError(
            f"{shards / 'train'}: none of {len(has_lesion)} training slices has lesion; "
            "check the masks, or add cases with lesion"
        )
    return SliceCounts(len(has_lesion), sum(has_lesion))


def training_batches(
    shards: Path, size: int, counts: SliceCounts, recipe: Recipe, *, seed: int, first_batch: int = 0
) -> tf.data.Dataset:
    """Return an endless dataset of batches.

    Args:
        shards: output of slice.
        size: edge of the grid.
        counts: of these shards.
        recipe: sampling, augmentation and batch size.
        seed: of order and augmentation.
        first_batch: number of batches to skip, used before the run was interrupted.

    Returns:
        Pairs of (batch, size, size) float32: slices in HU, and each cell's lesion share from 0 to 1.
    """
    records = _read_records(shards, size, counts)
    slices = _shuffle(records, size, counts.total, seed)
    if recipe.foreground_share:
        lesion = _shuffle(
            records.filter(lambda hu, share: tf.reduce_any(share > 0)), size, counts.with_lesion, seed + 1
        )
        weights = [recipe.foreground_share, 1 - recipe.foreground_share]
        slices = tf.data.Dataset.sample_from_datasets([lesion, slices], weights, seed=seed)
    batches = slices.batch(recipe.batch_size).enumerate().skip(first_batch)

    def prepare(number: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        slices_hu, share = tf.cast(batch[0], tf.float32), tf.cast(batch[1], tf.float32) / 255
        if recipe.augmentation is not None:
            batch_seed = tf.stack([tf.constant(seed, tf.int64), number])
            slices_hu, share = augment(slices_hu, share, batch_seed, recipe.augmentation)
        return slices_hu, share

    batches = batches.map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    # With the default policy each worker would read only some files, and so only some cases.
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options)


def _read_records(shards: Path, size: int, counts: SliceCounts) -> tf.data.Dataset:
    def decode(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = parse_example(record, size)
        return example["slice_hu"], example["lesion"]

    files = [str(path) for path in shard_paths(shards, "train")]
    records = tf.data.TFRecordDataset(files).map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return records.cache() if counts.total * _slice_bytes(size) <= _CACHE_BYTES else records


def _shuffle(records: tf.data.Dataset, size: int, count: int, seed: int) -> tf.data.Dataset:
    return records.shuffle(min(count, max(1, _SHUFFLE_BYTES // _slice_bytes(size))), seed=seed).repeat()


def _slice_bytes(size: int) -> int:
    return size * size * 3  # int16 HU and uint8 lesion
