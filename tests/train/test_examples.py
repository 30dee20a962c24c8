"""The stream of training batches: deterministic, resumable, with lesion drawn as often as said."""

import dataclasses
from itertools import islice

import numpy as np
import pytest

from components.runtime.errors import InputError
from components.slice.shards import read_split, write_shard
from components.train.examples import Survey, survey, training_batches, validation_slices
from components.train.recipe import Augmentation, Recipe
from tests.train.conftest import SIZE, write_shards

RECIPE = Recipe(augmentation=None, foreground_share=0.0, batch_size=4)


def batches_of(shards, recipe, count, skipped=0, seed=0):
    stream = training_batches(shards, SIZE, survey(shards, SIZE), recipe, seed=seed, skipped=skipped)
    return list(islice(stream.as_numpy_iterator(), count))


def test_the_survey_counts_slices_and_those_with_lesion(shards):
    assert survey(shards, SIZE) == Survey(slices=16, with_lesion=16)


def test_a_pass_gives_every_training_slice_once(shards):
    given = np.concatenate([hu for hu, _ in batches_of(shards, RECIPE, 4)])
    stored = np.stack([record["slice_hu"] for record in read_split(shards, "train", SIZE)])
    assert sorted(map(bytes, given.astype(np.int16))) == sorted(map(bytes, stored))


def test_shares_reach_from_0_to_1(shards):
    hu, lesion = batches_of(shards, RECIPE, 1)[0]
    assert hu.dtype == lesion.dtype == np.float32
    assert set(np.unique(lesion)) == {0.0, 1.0}


def test_the_same_seed_gives_the_same_batches_and_another_gives_others(shards):
    recipe = dataclasses.replace(RECIPE, augmentation=Augmentation(), foreground_share=0.5)
    first, again, other = (batches_of(shards, recipe, 6, seed=seed) for seed in (1, 1, 2))
    for (hu, lesion), (hu_again, lesion_again) in zip(first, again, strict=True):
        np.testing.assert_array_equal(hu, hu_again)
        np.testing.assert_array_equal(lesion, lesion_again)
    assert any((hu != hu_other).any() for (hu, _), (hu_other, _) in zip(first, other, strict=True))


def test_a_stream_taken_up_again_goes_on_where_it_was_left(shards):
    recipe = dataclasses.replace(RECIPE, augmentation=Augmentation(), foreground_share=0.5)
    whole, rest = batches_of(shards, recipe, 7), batches_of(shards, recipe, 2, skipped=5)
    for (hu, lesion), (hu_again, lesion_again) in zip(whole[5:], rest, strict=True):
        np.testing.assert_array_equal(hu, hu_again)
        np.testing.assert_array_equal(lesion, lesion_again)


def test_lesion_is_drawn_as_often_as_said(tmp_path):
    shards = write_shards(tmp_path / "shards", {"train": 1, "validation": 1, "test": 1}, slices=2)
    empty = np.zeros((18, SIZE, SIZE))
    write_shard(shards / "train" / "z.tfrecord", "z", np.arange(18), empty.astype(np.int16), empty.astype(np.uint8))
    drawn = batches_of(shards, dataclasses.replace(RECIPE, foreground_share=0.5), 100)
    share = np.concatenate([lesion.any(axis=(1, 2)) for _, lesion in drawn]).mean()
    assert share == pytest.approx(0.5 + 0.5 * 2 / 20, abs=0.08)


def test_no_lesion_in_training_is_an_error(tmp_path):
    shards = write_shards(tmp_path / "shards", {"train": 1, "validation": 1, "test": 1}, empty=True)
    with pytest.raises(InputError, match="none of 4 training slices has lesion"):
        survey(shards, SIZE)


def test_a_truncated_shard_is_named(tmp_path):
    shards = write_shards(tmp_path / "shards", {"train": 2, "validation": 1, "test": 1})
    broken = shards / "train" / "train_1.tfrecord"
    broken.write_bytes(broken.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"train_1\.tfrecord: corrupt or truncated"):
        survey(shards, SIZE)


def test_validation_takes_every_nth_slice_of_every_case(shards):
    assert len(validation_slices(shards, SIZE, at_most=100).slices_hu) == 8
    taken = validation_slices(shards, SIZE, at_most=4)
    assert taken.case_ids.tolist() == ["validation_0", "validation_0", "validation_1", "validation_1"]
