"""TFRecord shards of axial slices on the network's grid, written by `slice` and read by `train`.

A folder holds `split.json`, and `train/`, `validation/` and `test/` with one `*.tfrecord` for each case. Each record is
a `tf.train.Example`:

    slice_hu     bytes, (size, size) int16 little-endian, Hounsfield units
    lesion       bytes, (size, size) uint8, the lesion's share of each cell: 0 none, 255 all
    case_id      bytes, UTF-8
    slice_index  int64, position along the canonical z axis (inferior first), from 0
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from components.runtime.errors import InputError
from components.slice.full_disk import translate_disk_errors

_TYPES = {"slice_hu": tf.string, "lesion": tf.string, "case_id": tf.string, "slice_index": tf.int64}
_FEATURES = {name: tf.io.FixedLenFeature([], dtype) for name, dtype in _TYPES.items()}


def write_shard(
    path: Path, case_id: str, slice_indices: NDArray, slices_hu: NDArray[np.int16], lesion: NDArray[np.uint8]
) -> None:
    """Write one case's (n, size, size) slices and lesion shares as a shard."""
    with translate_disk_errors(), tf.io.TFRecordWriter(str(path)) as writer:
        for index, hu, share in zip(slice_indices, slices_hu, lesion, strict=True):
            feature = {
                "slice_hu": _bytes_feature(hu.astype("<i2").tobytes()),
                "lesion": _bytes_feature(share.astype(np.uint8).tobytes()),
                "case_id": _bytes_feature(case_id.encode()),
                "slice_index": tf.train.Feature(int64_list=tf.train.Int64List(value=[int(index)])),
            }
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            # By default, each process writes the entries of a map in an order of its own.
            writer.write(example.SerializeToString(deterministic=True))


def shard_paths(shards: Path, split: str) -> list[Path]:
    """List the shards of one split in alphabetical order; `InputError` if there are none."""
    paths = sorted((shards / split).glob("*.tfrecord"))
    if not paths:
        raise InputError(f"{shards / split}: no *.tfrecord shards; run slice on a larger cohort")
    return paths


def parse_example(record: tf.Tensor, size: int) -> dict[str, tf.Tensor]:
    """Decode a record: `slice_hu` (size, size) int16, `lesion` (size, size) uint8, `case_id` and `slice_index`."""
    features = tf.io.parse_single_example(record, _FEATURES)
    return {
        **features,
        "slice_hu": tf.reshape(tf.io.decode_raw(features["slice_hu"], tf.int16), (size, size)),
        "lesion": tf.reshape(tf.io.decode_raw(features["lesion"], tf.uint8), (size, size)),
    }


def read_split(shards: Path, split: str, size: int) -> Iterator[dict[str, np.ndarray]]:
    """Yield the decoded records of one split in order; `InputError` names a damaged shard."""
    for path in shard_paths(shards, split):
        try:
            dataset = tf.data.TFRecordDataset(str(path)).map(lambda record: parse_example(record, size))
            yield from dataset.as_numpy_iterator()
        except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
            raise InputError(f"{path}: damaged or truncated TFRecord; run slice again") from error


def _bytes_feature(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
