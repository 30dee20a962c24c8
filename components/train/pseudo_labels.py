"""Scans without masks as training slices: labeled by networks that learnt from the others, weighed by their agreement.

Several teachers each leave out another fifth of the training cases. Their mean probability is the label, doubt
included, and the agreement of their masks is the slice's weight in the loss (Roy et al., 2019, take the same number for
the quality of a segmentation without truth).
"""

import tempfile
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from components.assign_folds.folds import arrange
from components.ct.grid import axial_slices, fit_hu
from components.ct.intensity import read_ct
from components.runtime.errors import InputError
from components.runtime.files import atomic_write
from components.slice.shards import write_shard
from components.slice.split import Split
from components.train.devices import is_multi_worker
from components.train.examples import WEIGHT
from components.train.network import load_model
from components.train.recipe import Recipe
from components.train.training import MODEL, train
from components.train.validation import predict_slices

TEACHERS = 3
_PARTS = 5  # of the training cases, of which a teacher leaves out one
_NO_DOUBT = 0.1  # a mean probability below this is no lesion, so that slices without lesion stay without


def with_pseudo_labels(
    shards: Path, unlabeled: Path, output: Path, *, recipe: Recipe, seed: int, teachers: int = TEACHERS
) -> Path:
    """Copy shards, and add the slices of unlabeled scans to the training ones.

    Args:
        shards: output of slice.
        unlabeled: folder of scans, NIfTI.
        output: folder to write, whole or not at all.
        recipe: how the teachers are trained.
        seed: of the first teacher; each has its own.
        teachers: how many, up to 5; fewer where there are fewer training cases.

    Returns:
        `output`.

    Raises:
        InputError: no scan, one that cannot be read or is among the cases, only one training case, or several pods.
    """
    if is_multi_worker():
        raise InputError("pseudo-labels: several pods cannot make them together; train in one pod, without TF_CONFIG")
    split = Split.read(shards)
    scans = _scans(unlabeled, {case for part in split.cases.values() for case in part})
    with atomic_write(output) as whole, tempfile.TemporaryDirectory() as name:
        networks = _trained_teachers(shards, Path(name), split, recipe, seed, teachers)
        arrange(shards, whole, split.cases)
        for case_id, path in scans.items():
            scan, _ = read_ct(path)
            slices_hu = fit_hu(axial_slices(scan.voxels), split.image_size)
            answers = np.stack([predict_slices(network, slices_hu) for network in networks])
            weights = agreement(answers)
            _write(whole / "train" / f"{case_id}.tfrecord", case_id, slices_hu, answers.mean(axis=0), weights)
            print(f"pseudo-labels of {case_id}: {len(weights)} slices, mean weight {weights.mean():.2f}", flush=True)
    return output


def agreement(answers: NDArray[np.float32]) -> NDArray[np.float64]:
    """How well teachers agree on each slice: the Dice of their masks, mean over pairs; 1 where none marks anything.

    Args:
        answers: (teachers, n, rows, columns) probabilities.

    Returns:
        (n,) from 0 to 1.
    """
    masks = answers >= 0.5
    found = masks.sum(axis=(2, 3))
    pairs = []
    for one, other in combinations(range(len(masks)), 2):
        shared, total = (masks[one] & masks[other]).sum(axis=(1, 2)), found[one] + found[other]
        pairs.append(np.where(total > 0, 2 * shared / np.maximum(total, 1), 1.0))
    return np.mean(pairs, axis=0)


def _scans(folder: Path, known: set[str]) -> dict[str, Path]:
    scans = {path.name.split(".nii")[0]: path for path in sorted(folder.glob("*.nii*"))}
    if not scans:
        raise InputError(f"{folder}: no scans without masks here; expected .nii or .nii.gz files")
    both = sorted(known & set(scans))
    if both:
        raise InputError(f"{folder}: {', '.join(both)} among the cases with masks too; leave out the scan here")
    return scans


def _trained_teachers(
    shards: Path, folder: Path, split: Split, recipe: Recipe, seed: int, count: int
) -> Sequence[keras.Model]:
    cases = split.cases["train"]
    if len(cases) < 2:
        raise InputError(f"{shards}: {len(cases)} training case, where teachers of pseudo-labels need 2 or more")
    networks = []
    for number in range(min(count, _PARTS, len(cases))):
        left_out = set(cases[number::_PARTS])
        fitted = [case for case in cases if case not in left_out]
        print(f"teacher {number + 1}: trained on {len(fitted)} of {len(cases)} cases", flush=True)
        parts = {"train": fitted, "validation": split.cases["validation"], "test": []}
        arrange(shards, folder / f"shards_{number}", parts)
        train(folder / f"shards_{number}", folder / f"teacher_{number}", recipe=recipe, seed=seed + number)
        networks.append(load_model(folder / f"teacher_{number}" / MODEL))
    return networks


def _write(path: Path, case_id: str, slices_hu: NDArray, probability: NDArray, weights: NDArray) -> None:
    """Write a shard whose records carry a weight, as those of real masks do not."""
    label = np.where(probability < _NO_DOUBT, 0, np.rint(probability * 255)).astype(np.uint8)
    plain = path.with_suffix(".plain")
    write_shard(plain, case_id, np.arange(len(slices_hu)), slices_hu, label)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record, weight in zip(tf.data.TFRecordDataset(str(plain)), weights, strict=True):
            example = tf.train.Example.FromString(record.numpy())
            example.features.feature[WEIGHT].float_list.value.append(weight)
            writer.write(example.SerializeToString())
    plain.unlink()
