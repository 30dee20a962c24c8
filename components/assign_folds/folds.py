"""Patient-level folds for cross-validation, and the shards of one fold out of those of the whole cohort."""

import json
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from components.ct.cases import Case
from components.runtime.errors import CohortError, join_problems
from components.runtime.files import atomic_write
from components.slice.shards import read_split
from components.slice.split import SPLITS, Split, require_patients_apart

FOLDS = "folds.json"


def draw_folds(cases: Iterable[Case], burden: Mapping[str, float], count: int, seed: int) -> list[list[str]]:
    """Deal a cohort out into folds: all scans of a patient together, light and heavy cases in each.

    The patients are ordered by burden and cut into strata of `count`; each stratum gives one patient to every fold,
    drawn by the seed.

    Args:
        cases: the cohort.
        burden: how much lesion each case has, by case id; a patient counts with the mean.
        count: number of folds, 3 or more: one to test, one to choose the epoch and the threshold, the rest to train.
        seed: of the draw.

    Returns:
        The case ids of each fold, sorted.

    Raises:
        CohortError: fewer than three folds, or fewer patients than folds.
    """
    scans: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        scans[case.patient_id].append(case.case_id)
    if not 3 <= count <= len(scans):
        raise CohortError(f"{count} folds of {len(scans)} patients: expected 3 folds or more, and a patient for each")
    by_burden = sorted(scans, key=lambda patient: (np.mean([burden.get(case, 0) for case in scans[patient]]), patient))
    draw = np.random.default_rng(seed)
    order: list[str] = []
    for start in range(0, len(by_burden), count):
        order.extend(draw.permutation(np.array(by_burden[start : start + count], dtype=object)))
    return [sorted(case for patient in order[fold::count] for case in scans[patient]) for fold in range(count)]


def read_folds(path: Path, cases: Sequence[Case]) -> list[list[str]]:
    """Read given folds, such as a benchmark's official ones: a JSON list of lists of case ids.

    Raises:
        CohortError: it is none, a case is missing, unknown or there twice, or a patient is in two folds.
    """
    try:
        folds = [sorted(map(str, fold)) for fold in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError) as error:
        raise CohortError(f"{path}: no folds ({error}); expected a JSON list of lists of case ids") from error
    named, known = [case for fold in folds for case in fold], {case.case_id for case in cases}
    problems = [f"{case} is no case of the cohort" for case in sorted(set(named) - known)]
    problems += [f"{case} is in no fold" for case in sorted(known - set(named))]
    problems += [f"{case} is named more than once" for case in sorted(known) if named.count(case) > 1]
    if problems or len(folds) < len(SPLITS):
        problems += [f"{len(folds)} folds, where 3 or more are needed"] if len(folds) < len(SPLITS) else []
        raise CohortError(f"{path}: {join_problems(problems)}")
    require_patients_apart(cases, {f"fold {number}": fold for number, fold in enumerate(folds, 1)})
    return folds


def lesion_burden(shards: Path) -> dict[str, float]:
    """The lesion's share of all grid cells in each case of a folder of shards."""
    size = Split.read(shards).image_size
    shares: dict[str, list[float]] = defaultdict(list)
    for split in SPLITS:
        for record in read_split(shards, split, size):
            shares[bytes(record["case_id"]).decode()].append(float(record["lesion"].mean()) / 255)
    return {case: float(np.mean(values)) for case, values in shares.items()}


def select_fold(shards: Path, output: Path, folds: Sequence[Sequence[str]], number: int) -> Split:
    """Write the shards of one fold: tested on it, validated on the next one, trained on the others.

    Args:
        shards: output of slice for the whole cohort, whatever its own split is.
        output: folder to write, whole or not at all.
        folds: case ids of each fold.
        number: which fold, from 1.
    """
    test, validation = number - 1, number % len(folds)
    parts = {
        "train": sorted(case for fold, ids in enumerate(folds) if fold not in (test, validation) for case in ids),
        "validation": list(folds[validation]),
        "test": list(folds[test]),
    }
    return arrange(shards, output, parts)


def arrange(shards: Path, output: Path, parts: Mapping[str, Sequence[str]]) -> Split:
    """Write the shards of a cohort in another split; a case may be in more than one part of it."""
    whole = Split.read(shards)
    found = {path.stem: path for split in SPLITS for path in (shards / split).glob("*.tfrecord")}
    with atomic_write(output) as temporary:
        for name in SPLITS:
            (temporary / name).mkdir(parents=True)
            for case_id in parts[name]:
                if case_id in found:  # a case may have no slice with enough lesion
                    shutil.copyfile(found[case_id], temporary / name / found[case_id].name)
        split = Split({name: list(parts[name]) for name in SPLITS}, whole.image_size, whole.seed)
        split.write(temporary)
    return split
