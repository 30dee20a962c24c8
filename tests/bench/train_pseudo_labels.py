"""What scans without masks are worth: half of the training cases keep their masks, the other half's are hidden.

Run: python -m tests.bench.train_pseudo_labels --source DIR [--folds-file FILE] [--fold 2] [--epochs 30] [--teachers 3]

One network learns from the half with masks, another from both halves with pseudo-labels for the one without. Both are
scored on the fold that neither saw.
"""

import argparse
import dataclasses
import shutil
import tempfile
import time
from pathlib import Path
from statistics import fmean

from components.assign_folds.folds import arrange, read_folds
from components.ct.cases import read_cases
from components.ingest.ingest import ingest
from components.slice.slicing import slice_cohort
from components.train.pseudo_labels import with_pseudo_labels
from components.train.recipe import PRESETS
from components.train.training import train
from tests.bench.train_answers import PLAIN
from tests.bench.train_cross_validation import scored


def main() -> None:
    """Print the Dice of both networks."""
    given = parsed()
    recipe = dataclasses.replace(PRESETS["default"], epochs=given.epochs)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ingest(given.source, folder / "cases", masks="infection_masks")
        slice_cohort(folder / "cases", folder / "cases", folder / "shards")
        cases = {case.case_id: case for case in read_cases(folder / "cases")}
        folds = read_folds(given.folds_file, list(cases.values()))
        tested = folds[given.fold - 1]
        fitted = sorted(case for case in cases if case not in tested)
        with_masks, without = fitted[::2], fitted[1::2]
        (folder / "unlabeled").mkdir()
        for case_id in without:
            shutil.copy(cases[case_id].verified_scan(folder / "cases"), folder / "unlabeled" / f"{case_id}.nii.gz")
        parts = {"train": with_masks, "validation": with_masks[::5], "test": tested}
        arrange(folder / "shards", folder / "masks_alone", parts)
        for what in ("masks_alone", "with_pseudo_labels"):
            busy = time.process_time()
            if what == "with_pseudo_labels":
                with_pseudo_labels(
                    folder / "masks_alone",
                    folder / "unlabeled",
                    folder / what,
                    recipe=recipe,
                    seed=100,
                    teachers=given.teachers,
                )
            run = train(folder / what, folder / "model", recipe=recipe)
            found = fmean(scored(folder / "cases", folder / "model", tested, run)[PLAIN].values())
            print(f"{what}: Dice {found:.3f}, {time.process_time() - busy:.0f} CPU s", flush=True)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", required=True)
    parser.add_argument("--folds-file", type=Path, default=Path("tests/bench/covid_semiseg_folds.json"))
    parser.add_argument("--fold", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--teachers", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
