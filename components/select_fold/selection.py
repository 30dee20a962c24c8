"""The shards of a cohort in the split of one fold."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from components.assign_folds.folds import read_assignment
from components.runtime.errors import InputError
from components.runtime.files import atomic_folder
from components.slice.split import SPLITS, Split


def select_fold(shards: Path, assignment: Path, output: Path, *, number: int) -> Split:
    """Write the shards of one fold: tested on it, validated on the next fold, trained on the others.

    Args:
        shards: output of slice for the whole cohort.
        assignment: output of assign_folds.
        output: folder, written atomically.
        number: of the fold, from 1.

    Raises:
        InputError: there is no fold of this number.
    """
    folds = read_assignment(assignment)
    if not 1 <= number <= len(folds):
        raise InputError(f"number is {number}; expected a fold from 1 to {len(folds)}")
    test, validation = number - 1, number % len(folds)
    cases = {
        "train": sorted(case for index, fold in enumerate(folds) if index not in (test, validation) for case in fold),
        "validation": folds[validation],
        "test": folds[test],
    }
    return copy_shards(shards, output, cases)


def copy_shards(shards: Path, output: Path, cases: Mapping[str, Sequence[str]]) -> Split:
    """Copy a cohort's shards to another split, `cases`, in which a case may be in several splits."""
    cohort = Split.read(shards)
    paths = {path.stem: path for split in SPLITS for path in (shards / split).glob("*.tfrecord")}
    with atomic_folder(output) as temporary:
        for name in SPLITS:
            (temporary / name).mkdir()
            for case_id in cases[name]:
                if case_id in paths:  # a case without enough lesion has no shard
                    shutil.copyfile(paths[case_id], temporary / name / paths[case_id].name)
        split = Split({name: list(cases[name]) for name in SPLITS}, cohort.image_size, cohort.seed)
        split.write(temporary)
    return split
