"""Checkpoints on disk: they round-trip, the newest two are kept, and foreign files are ignored."""

import numpy as np
import pytest

from components.runtime.errors import InputError
from components.train.checkpoint import Checkpoint, CheckpointFolder, parse_checkpoint_dir


def make_checkpoint(epoch: int) -> Checkpoint:
    draw = np.random.default_rng(epoch)
    weights = [draw.normal(size=(3, 3)).astype(np.float32) for _ in range(11)]
    optimizer = [np.array(epoch * 32), draw.normal(size=4).astype(np.float32)]
    return Checkpoint(epoch, weights, optimizer, weights, {"history": {"loss": [0.5] * epoch}})


def test_a_checkpoint_round_trips(tmp_path):
    CheckpointFolder(tmp_path / "run").write(make_checkpoint(3))
    checkpoint, expected = CheckpointFolder(tmp_path / "run").read_newest(), make_checkpoint(3)
    assert (checkpoint.epoch, checkpoint.state) == (3, expected.state)
    for part in ("weights", "optimizer", "best"):
        for array, wanted in zip(getattr(checkpoint, part), getattr(expected, part), strict=True):
            np.testing.assert_array_equal(array, wanted)
            assert array.dtype == wanted.dtype


def test_the_two_newest_are_kept(tmp_path):
    folder = CheckpointFolder(tmp_path)
    for epoch in (8, 9, 10, 11):
        folder.write(make_checkpoint(epoch))
    assert sorted(path.name[:10] for path in tmp_path.iterdir()) == ["epoch-0010", "epoch-0011"]
    assert folder.read_newest().epoch == 11


def test_an_absent_folder_has_no_checkpoint(tmp_path):
    assert CheckpointFolder(tmp_path / "absent").read_newest() is None


def test_temporary_and_foreign_files_are_ignored(tmp_path):
    whole = CheckpointFolder(tmp_path).write(make_checkpoint(1))
    (tmp_path / f".{whole.name}.17.partial").write_bytes(whole.read_bytes()[:100])
    (tmp_path / "epoch-0002.npz").write_bytes(b"of another program")
    assert CheckpointFolder(tmp_path).read_newest().epoch == 1


def test_removal_keeps_the_checkpoints_of_other_runs(tmp_path):
    one, other = CheckpointFolder(tmp_path / "all" / "one"), CheckpointFolder(tmp_path / "all" / "other")
    one.write(make_checkpoint(1))
    other.write(make_checkpoint(1))
    one.remove()
    assert other.read_newest() is not None
    other.remove()
    assert not (tmp_path / "all").exists()


def test_a_uri_is_not_a_checkpoint_folder(tmp_path):
    assert parse_checkpoint_dir(None) is parse_checkpoint_dir("") is None
    assert parse_checkpoint_dir(str(tmp_path)) == tmp_path
    with pytest.raises(InputError, match=r"gs://bucket/runs: .*expected a folder"):
        parse_checkpoint_dir("gs://bucket/runs")
