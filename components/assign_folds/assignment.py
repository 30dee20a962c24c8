"""The file that says which case is in which fold."""

import json
from pathlib import Path

from components.assign_folds.folds import FOLDS, draw_folds, lesion_burden, read_folds
from components.ct.cases import read_cases
from components.runtime.files import atomic_write


def assign(accepted: Path, shards: Path, output: Path, count: int, given: Path | None, seed: int) -> int:
    """Draw the folds of a cohort, or take given ones, and write them as `folds.json`; how many there are.

    Args:
        accepted: folder of the case table.
        shards: output of slice, of which the lesion burdens are taken.
        output: folder to write.
        count: how many folds to draw.
        given: file with given folds; then `count` and `seed` count for nothing.
        seed: of the draw.
    """
    cases = read_cases(accepted)
    folds = read_folds(given, cases) if given else draw_folds(cases, lesion_burden(shards), count, seed)
    with atomic_write(output) as temporary:
        temporary.mkdir(parents=True)
        (temporary / FOLDS).write_text(json.dumps(folds, indent=2) + "\n")
    for number, fold in enumerate(folds, 1):
        print(f"fold {number}: {', '.join(fold)}", flush=True)
    return len(folds)


def assigned(folder: Path) -> list[list[str]]:
    """The case ids of each fold, as `assign` wrote them."""
    return json.loads((folder / FOLDS).read_text())
