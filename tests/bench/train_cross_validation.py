"""Cross-validation of recipes on a folder of scans and masks: Dice for each case on its own grid, with the time.

Run: python -m tests.bench.train_cross_validation --data DIR [--folds 5 | --folds-file FILE] [--only 1 2]
     [--preset default ...] [--image-size 128] [--changes '{}' '{"epochs": 60}' ...] [--results results.jsonl]

Every change is made to every preset, and each of these recipes is trained and scored on every fold. Each fold is scored
by a network that never saw it: the others train it, and the epoch is chosen on some of those training cases again, so
that nothing of the fold that is scored chooses anything. The threshold is 0.5; the last lines tell what other ways to
read the same networks' answers would have changed.
"""

import argparse
import json
import tempfile
import time
from itertools import product
from pathlib import Path
from statistics import fmean

from components.ct.cases import Case, read_cases
from components.ct.metrics import dice
from components.evaluate.cohort import mean_interval
from components.evaluate.inference import keras_network
from components.evaluate.labelled_scan import LabelledScan
from components.ingest.ingest import ingest
from components.slice.folds import arrange, draw_folds, lesion_burden, read_folds
from components.slice.slicing import slice_cohort
from components.train.network import load_model
from components.train.recipe import PRESETS, Recipe, changed_recipe
from components.train.training import Training, train
from tests.bench.train_answers import PLAIN, read_in_all_ways


def main() -> None:
    """Train and score every preset on every fold."""
    given = parsed()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = ingest(str(given.data), folder / "cases", masks=given.masks)
        slice_cohort(folder / "cases", folder / "cases", folder / "shards", image_size=given.image_size)
        if given.folds_file:
            folds = read_folds(given.folds_file, cases)
        else:
            folds = draw_folds(cases, lesion_burden(folder / "shards"), given.folds, seed=given.split_seed)
        for preset, changes in product(given.preset, given.changes):
            name = preset if changes == "{}" else f"{preset} {changes}"
            recipe = changed_recipe(PRESETS[preset], json.loads(changes))
            scores: dict[str, dict[str, float]] = {}
            for number in given.only or range(1, len(folds) + 1):
                row = one_fold(folder, folds, number, recipe, given)
                for way, found in row["cases"].items():
                    scores.setdefault(way, {}).update(found)
                row |= {"preset": preset, "changes": changes, "image_size": given.image_size}
                took = f"{row['seconds']:.0f} s, {row['cpu_seconds']:.0f} CPU s"
                print(f"{name} fold {number}: Dice {row['dice']:.3f}, {took}", flush=True)
                if given.results:
                    with given.results.open("a") as file:
                        file.write(json.dumps(row) + "\n")
            tell(name, cases, scores)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--masks", default="infection_masks")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--folds-file", type=Path, help="JSON file of given folds, in place of drawn ones")
    parser.add_argument("--only", type=int, nargs="*", help="numbers of the folds to score, from 1")
    parser.add_argument("--preset", nargs="+", default=["default"], choices=list(PRESETS))
    parser.add_argument("--changes", nargs="+", default=["{}"], help="settings that differ from the preset, as JSON")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split-seed", type=int, default=0)
    parser.add_argument("--checkpoints", type=Path, help="folder in which a run that was cut off is taken up again")
    parser.add_argument("--results", type=Path, help="file to add a line of JSON to for each fold")
    return parser.parse_args()


def one_fold(folder: Path, folds: list[list[str]], number: int, recipe: Recipe, given: argparse.Namespace) -> dict:
    """Train without one fold and score it: what the run took, and the Dice of each of its cases in each way."""
    fit = sorted(case for index, fold in enumerate(folds, 1) if index != number for case in fold)
    parts = {"train": fit, "validation": fit[:: len(folds)], "test": folds[number - 1]}
    arrange(folder / "shards", folder / "fold", parts)
    busy = time.process_time()
    run = train(folder / "fold", folder / "model", recipe=recipe, seed=given.seed, checkpoints=given.checkpoints)
    busy = time.process_time() - busy
    cases = scored(folder, folds[number - 1], run)
    history = {name: [round(value, 4) for value in series] for name, series in run.history.items()}
    row = {"fold": number, "dice": fmean(cases[PLAIN].values()), "cases": cases, "seconds": run.seconds}
    return {**row, "cpu_seconds": round(busy, 1), "seed": given.seed, "history": history}


def scored(folder: Path, case_ids: list[str], run: Training) -> dict[str, dict[str, float]]:
    """The Dice of each case on its own grid, for each way to read the network's answer."""
    network = keras_network(load_model(folder / "model" / "model.keras"))
    found: dict[str, dict[str, float]] = {}
    for case in read_cases(folder / "cases"):
        if case.case_id in case_ids:
            scan = LabelledScan.read(folder / "cases", case)
            for way, mask in read_in_all_ways(network, scan.slices_hu, run.image_size).items():
                found.setdefault(way, {})[case.case_id] = dice(scan.truth, mask)
    return found


def tell(name: str, cases: list[Case], scores: dict[str, dict[str, float]]) -> None:
    """The mean over all cases that were scored, and the other ways' differences, with intervals over patients."""
    patients = {case.case_id: case.patient_id for case in cases}

    def mean(values: dict[str, float], sign: str = "") -> str:
        interval = mean_interval([patients[case] for case in values], list(values.values()))
        between = f", 95 % interval {interval.low:{sign}.3f} to {interval.high:{sign}.3f}" if interval else ""
        return f"{fmean(values.values()):{sign}.3f}{between}"

    plain = scores[PLAIN]
    print(f"{name}: mean Dice of {len(plain)} cases {mean(plain)}", flush=True)
    for way, found in scores.items():
        if way != PLAIN:
            print(f"    {way}: {mean({case: found[case] - plain[case] for case in plain}, '+')}", flush=True)


if __name__ == "__main__":
    main()
