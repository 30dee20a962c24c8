"""The TFRecord shards between `slice` and `train`: one record for each axial slice on the network's grid.

A folder holds `train/`, `validation/` and `test/` with `*.tfrecord`, and `split.json` beside them. Each record
is a `tf.train.Example`:

    slice_hu     bytes, (size, size) int16 little-endian, Hounsfield units
    lesion       bytes, (size, size) uint8, the share of each grid cell that is lesion: 0 none, 255 all
    case_id      bytes, UTF-8
    slice_index  int64, position along the canonical z axis (inferior first), from 0
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from components.runtime.errors import InputError

_FEATURES = {
    "slice_hu": tf.io.FixedLenFeature([], tf.string),
    "lesion": tf.io.FixedLenFeature([], tf.string),
    "case_id": tf.io.FixedLenFeature([], tf.string),
    "slice_index": tf.io.FixedLenFeature([], tf.int64),
}


def write_shard(
    path: Path, case_id: str, slice_indices: NDArray, slices_hu: NDArray[np.int16], lesion: NDArray[np.uint8]
) -> None:
    """Write (n, size, size) slices of one case and their lesion shares as one shard."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for index, hu, share in zip(slice_indices, slices_hu, lesion, strict=True):
            writer.write(_example(case_id, int(index), hu, share).SerializeToString())


def shard_paths(shards: Path, split: str) -> list[Path]:
    """The shards of one split in a fixed order; `InputError` where there are none."""
    paths = sorted((shards / split).glob("*.tfrecord"))
    if not paths:
        raise InputError(f"{shards / split}: no *.tfrecord shards; run the slice step on a larger cohort")
    return paths


def parse_example(record: tf.Tensor, size: int) -> dict[str, tf.Tensor]:
    """Decode a serialized record: `slice_hu` (size, size) int16, `lesion` (size, size) uint8, id and index."""
    features = tf.io.parse_single_example(record, _FEATURES)
    return {
        **features,
        "slice_hu": tf.reshape(tf.io.decode_raw(features["slice_hu"], tf.int16), (size, size)),
        "lesion": tf.reshape(tf.io.decode_raw(features["lesion"], tf.uint8), (size, size)),
    }


def read_split(shards: Path, split: str, size: int) -> Iterator[dict[str, np.ndarray]]:
    """Yield the decoded records of one split in order; `InputError` names a shard that cannot be read."""
    for path in shard_paths(shards, split):
        with _named_on_corruption(path):
            dataset = tf.data.TFRecordDataset(str(path)).map(lambda record: parse_example(record, size))
            yield from dataset.as_numpy_iterator()


@contextmanager
def _named_on_corruption(path: Path) -> Iterator[None]:
    try:
        yield
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        raise InputError(f"{path}: corrupt or truncated TFRecord; run the slice step again") from error


def _example(case_id: str, index: int, hu: NDArray, share: NDArray) -> tf.train.Example:
    def of_bytes(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    return tf.train.Example(
        features=tf.train.Features(
            feature={
                "slice_hu": of_bytes(hu.astype("<i2").tobytes()),
                "lesion": of_bytes(share.astype(np.uint8).tobytes()),
                "case_id": of_bytes(case_id.encode()),
                "slice_index": tf.train.Feature(int64_list=tf.train.Int64List(value=[index])),
            }
        )
    )
