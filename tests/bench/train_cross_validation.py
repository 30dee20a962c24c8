"""Cross-validation of recipes: Dice for each case on its own grid, and the time, as one table of all recipes and folds.

Run: python -m tests.bench.train_cross_validation [--source DIR] [--folds 5 | --folds-file FILE] [--only 1 2]
     [--preset default ...] [--image-size 128 256] [--changes '{}' '{"epochs": 60}' ...] [--results results.jsonl]
     [--ways]

Without a source, and without SOURCE in the environment, six synthetic scans stand in, in three folds of short runs:
that shows the table in some minutes, and nothing about real scans.

Every change is made to every preset at every size, and each of these recipes is trained and scored on every fold. Each
fold is scored by a network that never saw it: the others train it, and the epoch is chosen on some of those training
cases again, so that nothing of the fold that is scored chooses anything. The threshold is 0.5; with --ways, lines tell
what other ways to read the same networks' answers would have changed.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from statistics import fmean, stdev

from components.assign_folds.folds import arrange, draw_folds, lesion_burden, read_folds
from components.ct.cases import read_cases
from components.ct.inference import keras_network
from components.ct.metrics import dice
from components.evaluate.cohort import mean_interval
from components.evaluate.labeled_scan import LabeledScan
from components.ingest.ingest import ingest
from components.slice.slicing import slice_cohort
from components.train.network import load_model
from components.train.recipe import PRESETS, Recipe, change_recipe
from components.train.training import MODEL, Training, train
from tests.bench.train_answers import PLAIN, read_in_all_ways, read_plainly

_SYNTHETIC = "phantom:6"


def main() -> None:
    """Train and score every recipe on every fold, and print the table."""
    given = parsed()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = ingest(given.source, folder / "cases", masks=given.masks)
        tables: dict[str, list[dict]] = {}
        for size in given.image_size:
            cut = folder / str(size)
            slice_cohort(folder / "cases", folder / "cases", cut / "shards", image_size=size)
            if given.folds_file:
                folds = read_folds(given.folds_file, cases)
            else:
                folds = draw_folds(cases, lesion_burden(cut / "shards"), given.folds, seed=given.split_seed)
            for preset, changes in product(given.preset, given.changes):
                named = f"{preset}{'' if changes == '{}' else ' ' + changes}, {size}×{size}"
                recipe = change_recipe(PRESETS[preset], json.loads(changes))
                tables[named] = []
                for row in all_folds(folder / "cases", cut, folds, recipe, given):
                    print(f"{named}, fold {row['fold']}: Dice {row['dice']:.3f}, {row['seconds']:.0f} s", flush=True)
                    tables[named].append(row | {"preset": preset, "changes": changes, "image_size": size})
                    note(tables[named][-1], given.results)
        tell(tables, {case.case_id: case.patient_id for case in cases})


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default=os.environ.get("SOURCE", _SYNTHETIC))  # `make bench SOURCE=…` sets it
    parser.add_argument("--masks", default="infection_masks")
    parser.add_argument("--folds", type=int, help="5, or 3 of the synthetic scans")
    parser.add_argument("--folds-file", type=Path, help="JSON file of given folds, in place of drawn ones")
    parser.add_argument("--only", type=int, nargs="*", help="numbers of the folds to score, from 1")
    parser.add_argument("--preset", nargs="+", default=list(PRESETS), choices=list(PRESETS))
    parser.add_argument("--changes", nargs="+", help="settings that differ from the preset, as JSON")
    parser.add_argument("--image-size", type=int, nargs="+", default=[128])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split-seed", type=int, default=0)
    parser.add_argument("--ways", action="store_true", help="other thresholds, flip averaging and post-processing too")
    parser.add_argument("--checkpoints", type=Path, help="folder in which a run that was cut off is taken up again")
    parser.add_argument("--results", type=Path, help="file to add a line of JSON to for each fold")
    given = parser.parse_args()
    synthetic = given.source == _SYNTHETIC
    given.folds = given.folds or (3 if synthetic else 5)
    given.changes = given.changes or ['{"epochs": 10}' if synthetic else "{}"]
    return given


def note(row: dict, results: Path | None) -> None:
    """Add a fold to the file of results, where there is one."""
    if results:
        with results.open("a") as file:
            file.write(json.dumps(row) + "\n")


def all_folds(
    cases: Path, cut: Path, folds: list[list[str]], recipe: Recipe, given: argparse.Namespace
) -> Iterator[dict]:
    """Train and score a recipe on every fold that was asked for."""
    for number in given.only or range(1, len(folds) + 1):
        yield one_fold(cases, cut, folds, number, recipe, given)


def one_fold(
    cases: Path, cut: Path, folds: list[list[str]], number: int, recipe: Recipe, given: argparse.Namespace
) -> dict:
    """Train without one fold and score it: what the run took, and the Dice of each of its cases in each way."""
    fit = sorted(case for index, fold in enumerate(folds, 1) if index != number for case in fold)
    parts = {"train": fit, "validation": fit[:: len(folds)], "test": folds[number - 1]}
    arrange(cut / "shards", cut / "fold", parts)
    busy = time.process_time()
    run = train(cut / "fold", cut / "model", recipe=recipe, seed=given.seed, checkpoints=given.checkpoints)
    busy = time.process_time() - busy
    found = scored(cases, cut / "model", folds[number - 1], run, given.ways)
    history = {name: [round(value, 4) for value in series] for name, series in run.history.items()}
    row = {"fold": number, "dice": fmean(found[PLAIN].values()), "cases": found, "seconds": run.seconds}
    return {**row, "cpu_seconds": round(busy, 1), "seed": given.seed, "history": history}


def scored(
    cases: Path, model: Path, case_ids: list[str], run: Training, all_ways: bool = False
) -> dict[str, dict[str, float]]:
    """The Dice of each case on its own grid, read plainly or in each way to read the network's answer."""
    network, read = keras_network(load_model(model / MODEL)), read_in_all_ways if all_ways else read_plainly
    found: dict[str, dict[str, float]] = {}
    for case in read_cases(cases):
        if case.case_id in case_ids:
            scan = LabeledScan.read(cases, case)
            for way, mask in read(network, scan.slices_hu, run.image_size).items():
                found.setdefault(way, {})[case.case_id] = dice(scan.truth, mask)
    return found


def tell(tables: dict[str, list[dict]], patients: dict[str, str]) -> None:
    """Print a line for each recipe, then what other ways to read its answers change; intervals are over patients."""

    def mean(values: dict[str, float], sign: str = "") -> str:
        interval = mean_interval([patients[case] for case in values], list(values.values()))
        between = f" ({interval.low:{sign}.3f} to {interval.high:{sign}.3f})" if interval else ""
        return f"{fmean(values.values()):{sign}.3f}{between}"

    wide = max(map(len, tables))
    folds = [row["fold"] for row in next(iter(tables.values()))]
    print(f"\n{'Dice of fold':{wide}}{''.join(f'{fold:7}' for fold in folds)}", end="")
    print("   ± sd   all cases, 95 % interval     s  CPU s a fold")
    told = []
    for name, rows in tables.items():
        ways = {way: {case: of for row in rows for case, of in row["cases"][way].items()} for way in rows[0]["cases"]}
        dices = [row["dice"] for row in rows]
        spread = f"{stdev(dices):.3f}" if len(dices) > 1 else "–"
        wall, busy = (fmean(row[of] for row in rows) for of in ("seconds", "cpu_seconds"))
        print(f"{name:{wide}}{''.join(f'{of:7.3f}' for of in dices)}", end="")
        print(f"  {spread:5}   {mean(ways[PLAIN]):24} {wall:5.0f} {busy:6.0f}")
        plain = ways.pop(PLAIN)
        told += [f"\n{name}, against {PLAIN}:"] if ways else []
        for way, found in ways.items():
            told.append(f"  {way:34}{mean({case: found[case] - plain[case] for case in plain}, '+')}")
    print("\n".join(told))


if __name__ == "__main__":
    main()
