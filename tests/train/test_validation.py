"""Validation slices, and the Dice of each case computed by hand."""

import numpy as np
import pytest

from components.runtime.errors import InputError
from components.train.validation import ValidationSlices, mean_case_dice, read_validation_slices
from tests.train.conftest import SIZE, write_shards


def test_every_nth_slice_of_every_case_is_read(shards):
    assert len(read_validation_slices(shards, SIZE, limit=100).slices_hu) == 8
    slices = read_validation_slices(shards, SIZE, limit=4)
    assert slices.case_ids.tolist() == ["validation_0", "validation_0", "validation_1", "validation_1"]


def test_validation_slices_are_thinned_evenly_and_none_is_an_error(tmp_path):
    shards = write_shards(tmp_path, {"train": 1, "validation": 1, "test": 1}, slices=11)
    every = read_validation_slices(shards, SIZE, limit=100).slices_hu
    np.testing.assert_array_equal(read_validation_slices(shards, SIZE, limit=3).slices_hu, every[::4])
    (shards / "validation" / "validation_0.tfrecord").write_bytes(b"")
    with pytest.raises(InputError, match=r"validation: no slice"):
        read_validation_slices(shards, SIZE, limit=3)


DICE_A = 2 * 1 / (2 + 3)  # one shared cell, two of lesion, three predicted


@pytest.mark.parametrize(
    ("lesion", "probability", "case_ids", "expected"),
    [
        pytest.param(
            [[255, 255, 0], [0, 0, 0], [255, 0, 0]],
            [[0.9, 0.1, 0.9], [0.1, 0.9, 0.1], [0.9, 0.1, 0.1]],
            ["a", "a", "b"],
            (DICE_A + 1) / 2,
            id="slices of a case are pooled and cases averaged",
        ),
        pytest.param([[255, 51]], [[0.9, 0.9]], ["a"], 2 * 1.2 / (1.2 + 2), id="a lesion share counts as a share"),
        pytest.param(
            [[255, 0], [0, 0]], [[0.9, 0.1], [0.9, 0.1]], ["a", "b"], 1, id="a case without lesion is left out"
        ),
        pytest.param(
            [[0, 0], [0, 0]],
            [[0.1, 0.1], [0.9, 0.1]],
            ["a", "b"],
            0.5,
            id="without any lesion, empty predictions are 1",
        ),
    ],
)
def test_the_mean_case_dice_matches_values_by_hand(lesion, probability, case_ids, expected):
    shares = np.array(lesion, np.uint8)[:, None, :]  # slices of one row each
    slices = ValidationSlices(np.zeros(shares.shape, np.int16), shares, np.array(case_ids))
    dice = mean_case_dice(np.array(probability, np.float32)[:, None, :], slices)
    assert dice == pytest.approx(expected)
