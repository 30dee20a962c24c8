"""Pseudo-labels: their weights by hand, and a run that learns from scans without masks."""

import dataclasses
import json

import nibabel as nib
import numpy as np
import pytest

from components.ct.grid import volume_from_axial_slices
from components.runtime.errors import InputError
from components.slice.shards import read_split
from components.train.examples import survey, training_batches
from components.train.pseudo_labels import agreement, with_pseudo_labels
from components.train.recipe import PRESETS
from components.train.training import train
from tests.train.conftest import SIZE, draw_slices

TINY = dataclasses.replace(PRESETS["default"], filters=(4, 8), epochs=1, slices_per_epoch=16, learning_rate=2e-2)


def test_agreement_is_the_mean_dice_of_the_teachers_masks():
    one, other = np.zeros((2, 2, 4)), np.zeros((2, 2, 4))  # two slices, of which the second has no lesion
    one[0, 0], other[0, 0, :2] = 0.9, 0.6
    np.testing.assert_allclose(agreement(np.stack([one, other])), [2 * 2 / (4 + 2), 1.0])
    none = np.zeros_like(one)
    np.testing.assert_allclose(agreement(np.stack([one, other, none]))[0], (2 / 3 + 0 + 0) / 3)


@pytest.fixture
def unlabeled(tmp_path):
    """Two scans of three slices, without masks."""
    (tmp_path / "unlabeled").mkdir()
    draw = np.random.default_rng(9)
    for name in ("a", "b"):
        volume = volume_from_axial_slices(draw_slices(3, draw)[0])
        nib.save(nib.Nifti1Image(volume, np.eye(4)), tmp_path / "unlabeled" / f"{name}.nii.gz")
    return tmp_path / "unlabeled"


def test_unlabeled_slices_are_trained_on_with_soft_labels_and_weights(shards, unlabeled, tmp_path):
    more = with_pseudo_labels(shards, unlabeled, tmp_path / "more", recipe=TINY, seed=0, teachers=2)
    added = [record for record in read_split(more, "train", SIZE) if record["case_id"] in (b"a", b"b")]
    assert [int(record["slice_index"]) for record in added] == [0, 1, 2, 0, 1, 2]
    found = survey(more, SIZE)
    assert found.slices == 16 + 6
    stream = training_batches(more, SIZE, found, dataclasses.replace(TINY, foreground_share=0.0), seed=0)
    weights = np.concatenate([weight for *_, weight in stream.take(11).as_numpy_iterator()])
    assert weights.max() == 1
    assert 0 < (weights < 1).mean() < 0.5
    assert train(more, tmp_path / "model", recipe=TINY).slices == 22


def test_scans_that_have_masks_already_and_empty_folders_are_told(shards, unlabeled, tmp_path):
    (unlabeled / "b.nii.gz").rename(unlabeled / "train_1.nii.gz")
    with pytest.raises(InputError, match="train_1 among the cases with masks too"):
        with_pseudo_labels(shards, unlabeled, tmp_path / "more", recipe=TINY, seed=0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no scans without masks here"):
        with_pseudo_labels(shards, tmp_path / "empty", tmp_path / "more", recipe=TINY, seed=0)


def test_several_pods_are_told_that_they_cannot(shards, unlabeled, tmp_path, monkeypatch):
    cluster = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    with pytest.raises(InputError, match="several pods cannot make them together"):
        with_pseudo_labels(shards, unlabeled, tmp_path / "more", recipe=TINY, seed=0)
