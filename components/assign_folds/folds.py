"""Patient-level folds for cross-validation."""

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.ct.cases import Case, read_cases
from components.runtime.errors import CohortError, join_problems
from components.runtime.files import atomic_folder
from components.runtime.json_file import parse_names, read_json
from components.runtime.seed import check_seed
from components.slice.split import SPLITS, Split, group_by_patient, require_lesions, require_patients_apart

_log = logging.getLogger(__name__)
MIN_FOLDS = 3  # one for test, one for epoch and threshold, one or more for training
FOLDS_FILE = "folds.json"


def write_folds(
    accepted: Path, shards: Path, output: Path, *, count: int, folds_file: Path | None, seed: int
) -> list[list[str]]:
    """Draw the folds of a cohort, or read a benchmark's own, and write `folds.json`.

    Args:
        accepted: folder of the case table.
        shards: output of slice, for the lesion burdens.
        output: folder to write.
        count: number of folds; ignored with `folds_file`.
        folds_file: file with the folds.
        seed: of the draw.

    Returns:
        The case ids of each fold.
    """
    cases, burden = read_cases(accepted), measure_lesion_burden(shards)
    folds = read_folds(folds_file, cases, burden) if folds_file else draw_folds(cases, burden, count, seed)
    with atomic_folder(output) as temporary:
        (temporary / FOLDS_FILE).write_text(json.dumps(folds, indent=2) + "\n")
    for number, fold in enumerate(folds, 1):
        _log.info("fold %d: %s", number, ", ".join(fold))
    return folds


def draw_folds(cases: Iterable[Case], burden: Mapping[str, float], count: int, seed: int) -> list[list[str]]:
    """Assign patients to folds, with low and high lesion burdens and a patient with lesion in each fold.

    The patients, ordered by burden, form strata of `count`; the seed assigns one patient of each stratum to each fold.
    Only the stratum of the lowest burdens may be smaller.

    Args:
        cases: the cohort.
        burden: lesion share of each case, by case id.
        count: number of folds, 3 or more.
        seed: of the draw.

    Returns:
        The sorted case ids of each fold.

    Raises:
        InputError: the seed is out of range.
        CohortError: fewer than three folds, or fewer patients, or patients with lesion, than folds.
    """
    check_seed(seed)
    scans = group_by_patient(cases, burden)
    if not MIN_FOLDS <= count <= len(scans):
        raise CohortError(
            f"{count} folds of {len(scans)} patients; expected {MIN_FOLDS} folds or more, and a patient for each fold"
        )
    require_lesions(scans, burden, count, f"{count} folds")
    patients, draw = np.array(list(scans), dtype=object), np.random.default_rng(seed)
    folds: list[list[str]] = [[] for _ in range(count)]
    for stratum in np.split(patients, range(len(patients) % count, len(patients), count)):
        for fold, patient in zip(folds, draw.permutation(stratum), strict=False):
            fold.extend(scans[patient])
    return [sorted(fold) for fold in folds]


def read_folds(path: Path, cases: Sequence[Case], burden: Mapping[str, float]) -> list[list[str]]:
    """Read folds from a JSON list of lists of case ids, such as a benchmark's official folds.

    Raises:
        InputError: see `parse_folds`.
        CohortError: missing or unknown case, a fold without lesion, or a patient in two folds.
    """
    folds = parse_folds(path)
    listed_ids, cohort_ids = [case for fold in folds for case in fold], {case.case_id for case in cases}
    problems = [f"{case} is not a case of the cohort" for case in sorted(set(listed_ids) - cohort_ids)]
    problems += [f"{case} is missing" for case in sorted(cohort_ids - set(listed_ids))]
    problems += [
        f"fold {number} has no case with lesion; expected one or more, to score and validate with"
        for number, fold in enumerate(folds, 1)
        if not any(burden.get(case, 0) > 0 for case in fold)
    ]
    if problems:
        raise CohortError(f"{path}: {join_problems(problems)}")
    require_patients_apart(cases, {f"fold {number}": fold for number, fold in enumerate(folds, 1)})
    return folds


def parse_folds(path: Path) -> list[list[str]]:
    """Read a JSON list of lists of case ids.

    Raises:
        InputError: invalid file, fewer than three folds, an empty fold, or a repeated case.
    """
    folds = read_json(path, _parse_lists, "a JSON list of lists of case ids; correct the file")
    if len(folds) < MIN_FOLDS:
        raise CohortError(f"{path}: {len(folds)} folds; expected {MIN_FOLDS} or more")
    counts = Counter(case for fold in folds for case in fold)
    problems = [f"fold {number} is empty" for number, fold in enumerate(folds, 1) if not fold]
    problems += [f"{case} is listed more than once" for case in sorted(counts) if counts[case] > 1]
    if problems:
        raise CohortError(f"{path}: {join_problems(problems)}; expected each case in one fold; correct the file")
    return folds


def read_assignment(folder: Path) -> list[list[str]]:
    """Read the folds from the output of `write_folds`; raise `InputError` if the file is missing or damaged."""
    return read_json(folder / FOLDS_FILE, _parse_lists, "the output of assign_folds; run assign_folds again")


def _parse_lists(content: Any) -> list[list[str]]:
    if not isinstance(content, list):
        raise TypeError("no list")
    return [sorted(parse_names(fold)) for fold in content]


def measure_lesion_burden(shards: Path) -> dict[str, float]:
    """Measure the lesion's share of all grid cells of each case in a folder of shards."""
    from components.slice.shards import read_split  # imports TensorFlow, which the readers of folds do without

    size = Split.read(shards).image_size
    shares: dict[str, list[float]] = defaultdict(list)
    for split in SPLITS:
        for record in read_split(shards, split, size):
            shares[bytes(record["case_id"]).decode()].append(float(record["lesion"].mean()) / 255)
    return {case: float(np.mean(values)) for case, values in shares.items()}
