"""Tiny shards in the format of slice, with lesions that a few training steps find."""

from pathlib import Path

import numpy as np
import pytest

from components.slice.shards import write_shard
from components.slice.split import Split

SIZE = 32


def draw_slices(count: int, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw lung-like noise with a bright disc in each slice, (count, SIZE, SIZE) HU and lesion shares."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    hu = draw.normal(-800, 60, (count, SIZE, SIZE))
    lesion = np.zeros((count, SIZE, SIZE), np.uint8)
    for index in range(count):
        row, column = draw.uniform(8, 24, 2)
        lesion[index][np.hypot(rows - row, columns - column) < draw.uniform(4, 8)] = 255
    hu[lesion > 0] += 600
    return hu.astype(np.int16), lesion


def write_shards(folder: Path, cases: dict[str, int], slices: int = 4, empty: bool = False) -> Path:
    """Write shards with this number of cases in each split, and of slices in each case."""
    draw = np.random.default_rng(0)
    parts = {}
    for split, count in cases.items():
        (folder / split).mkdir(parents=True)
        parts[split] = [f"{split}_{index}" for index in range(count)]
        for case_id in parts[split]:
            hu, lesion = draw_slices(slices, draw)
            lesion = lesion * 0 if empty else lesion
            write_shard(folder / split / f"{case_id}.tfrecord", case_id, np.arange(slices), hu, lesion)
    Split(parts, SIZE, 0).write(folder)
    return folder


@pytest.fixture(scope="session")
def shards(tmp_path_factory) -> Path:
    return write_shards(tmp_path_factory.mktemp("shards"), {"train": 4, "validation": 2, "test": 1})
