"""Training batches: deterministic, resumable, with lesion slices drawn at the requested rate."""

import dataclasses
from itertools import islice

import numpy as np
import pytest

from components.runtime.errors import InputError
from components.slice.shards import read_split, write_shard
from components.train.batches import SliceCounts, count_slices, training_batches
from components.train.recipe import Augmentation, Recipe
from tests.train.conftest import SIZE, write_shards

RECIPE = Recipe(augmentation=None, foreground_share=0.0, batch_size=4)
RANDOM = dataclasses.replace(RECIPE, augmentation=Augmentation(), foreground_share=0.5)


def draw_batches(shards, recipe, count, first_batch=0, seed=0):
    counts = count_slices(shards, SIZE)
    stream = training_batches(shards, SIZE, counts, recipe, seed=seed, first_batch=first_batch)
    return list(islice(stream.as_numpy_iterator(), count))


def test_slices_are_counted_in_total_and_with_lesion(shards):
    assert count_slices(shards, SIZE) == SliceCounts(total=16, with_lesion=16)


def test_an_epoch_without_oversampling_has_every_training_slice_once(shards):
    drawn = np.concatenate([hu for hu, _ in draw_batches(shards, RECIPE, 4)])
    stored = np.stack([record["slice_hu"] for record in read_split(shards, "train", SIZE)])
    assert sorted(map(bytes, drawn.astype(np.int16))) == sorted(map(bytes, stored))


def test_lesion_shares_are_floats_from_0_to_1(shards):
    hu, lesion = draw_batches(shards, RECIPE, 1)[0]
    assert hu.dtype == lesion.dtype == np.float32
    assert set(np.unique(lesion)) == {0.0, 1.0}


def test_equal_seeds_give_equal_batches_and_other_seeds_other_batches(shards):
    first, again, other = (draw_batches(shards, RANDOM, 6, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_equal(first, again)
    assert any((hu != hu_other).any() for (hu, _), (hu_other, _) in zip(first, other, strict=True))


def test_a_resumed_stream_continues_with_the_next_batch(shards):
    np.testing.assert_equal(draw_batches(shards, RANDOM, 7)[5:], draw_batches(shards, RANDOM, 2, first_batch=5))


def test_lesion_slices_are_drawn_at_the_requested_rate(tmp_path):
    shards = write_shards(tmp_path / "shards", {"train": 1, "validation": 1, "test": 1}, slices=2)
    empty = np.zeros((18, SIZE, SIZE))
    write_shard(shards / "train" / "z.tfrecord", "z", np.arange(18), empty.astype(np.int16), empty.astype(np.uint8))
    drawn = draw_batches(shards, dataclasses.replace(RECIPE, foreground_share=0.5), 100)
    share = np.concatenate([lesion.any(axis=(1, 2)) for _, lesion in drawn]).mean()
    assert share == pytest.approx(0.5 + 0.5 * 2 / 20, abs=0.08)


def test_training_slices_without_any_lesion_are_an_error(tmp_path):
    shards = write_shards(tmp_path / "shards", {"train": 1, "validation": 1, "test": 1}, empty=True)
    with pytest.raises(InputError, match=r"none of 4 .*lesion"):
        count_slices(shards, SIZE)


def test_a_truncated_shard_is_an_error_that_names_it(tmp_path):
    shards = write_shards(tmp_path / "shards", {"train": 2, "validation": 1, "test": 1})
    truncated = shards / "train" / "train_1.tfrecord"
    truncated.write_bytes(truncated.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"train_1\.tfrecord: .*truncated"):
        count_slices(shards, SIZE)
