"""Checkpoints on disk: what is read is what was written, two are kept, and damage is noticed."""

import numpy as np
import pytest

from components.runtime.errors import InputError
from components.train.checkpoint import Checkpoint, CheckpointFolder, checkpoint_folder


def a_checkpoint(epoch: int) -> Checkpoint:
    draw = np.random.default_rng(epoch)
    weights = [draw.normal(size=(3, 3)).astype(np.float32) for _ in range(11)]
    optimizer = [np.array(epoch * 32), draw.normal(size=4).astype(np.float32)]
    return Checkpoint(epoch, weights, optimizer, weights, {"history": {"loss": [0.5] * epoch}})


def test_what_is_read_is_what_was_written(tmp_path):
    CheckpointFolder(tmp_path / "run").write(a_checkpoint(3))
    found, expected = CheckpointFolder(tmp_path / "run").newest(), a_checkpoint(3)
    assert (found.epoch, found.state) == (3, expected.state)
    for part in ("weights", "optimizer", "best"):
        for array, wanted in zip(getattr(found, part), getattr(expected, part), strict=True):
            np.testing.assert_array_equal(array, wanted)
            assert array.dtype == wanted.dtype


def test_the_two_newest_are_kept(tmp_path):
    folder = CheckpointFolder(tmp_path)
    for epoch in (8, 9, 10, 11):
        folder.write(a_checkpoint(epoch))
    assert sorted(path.name[:10] for path in tmp_path.iterdir()) == ["epoch-0010", "epoch-0011"]
    assert folder.newest().epoch == 11


def test_where_nothing_was_written_nothing_is_found(tmp_path):
    assert CheckpointFolder(tmp_path / "absent").newest() is None


def test_a_half_written_file_is_no_checkpoint(tmp_path):
    whole = CheckpointFolder(tmp_path).write(a_checkpoint(1))
    (tmp_path / f".{whole.name}.17.partial").write_bytes(whole.read_bytes()[:100])
    (tmp_path / "epoch-0002.npz").write_bytes(b"of another program")
    assert CheckpointFolder(tmp_path).newest().epoch == 1


def test_removing_them_leaves_those_of_other_runs(tmp_path):
    one, other = CheckpointFolder(tmp_path / "all" / "one"), CheckpointFolder(tmp_path / "all" / "other")
    one.write(a_checkpoint(1))
    other.write(a_checkpoint(1))
    one.remove()
    assert other.newest() is not None
    other.remove()
    assert not (tmp_path / "all").exists()


def test_a_folder_is_asked_for_not_an_address(tmp_path):
    assert checkpoint_folder(None) is checkpoint_folder("") is None
    assert checkpoint_folder(str(tmp_path)) == tmp_path
    with pytest.raises(InputError, match="gs://bucket/runs: an address, and checkpoints need a folder"):
        checkpoint_folder("gs://bucket/runs")
