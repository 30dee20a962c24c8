"""Cross-validate recipes: the Dice of each case on its own grid, and the time, as one table of recipes and folds.

Run: python -m tests.bench.train_cross_validation [--source DIR] [--folds 5 | --folds-file FILE] [--only 1 2]
     [--preset default ...] [--image-size 128 256] [--changes '{}' '{"epochs": 60}' ...] [--results results.jsonl]
     [--variants]

Without a source, and without SOURCE in the environment, it uses six synthetic scans, three folds and short runs: that
shows the table within minutes, but says nothing about real scans.

Each combination of preset, changes and size is trained and scored on every fold, by a network that never saw the fold:
the other folds train it, and a subset of them selects the epoch. The threshold is 0.5; --variants adds how other
thresholds, flip averaging and post-processing would change the result.
"""

import argparse
import json
import os
import tempfile
import time
from itertools import product
from pathlib import Path
from statistics import fmean, stdev

from components.assign_folds.folds import draw_folds, measure_lesion_burden, read_folds
from components.ct.cases import read_cases
from components.ct.inference import keras_network
from components.ct.metrics import dice
from components.evaluate.cohort import mean_interval
from components.evaluate.labeled_scan import LabeledScan
from components.ingest.ingest import ingest
from components.select_fold.selection import copy_shards
from components.slice.slicing import slice_cohort
from components.train import MODEL_FILE
from components.train.network import load_model
from components.train.recipe import Preset, Recipe, select_recipe
from components.train.training import train
from tests.bench.train_variants import PLAIN, mask_variants, plain_mask

_SYNTHETIC = "phantom:6"


def main() -> None:
    """Train and score every recipe on every fold, and print the table."""
    options = parse_arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = ingest(options.source, folder / "cases", masks=options.masks)
        tables: dict[str, list[dict]] = {}
        for size in options.image_size:
            sliced = folder / str(size)
            slice_cohort(folder / "cases", folder / "cases", sliced / "shards", image_size=size)
            if options.folds_file:
                folds = read_folds(options.folds_file, cases)
            else:
                burden = measure_lesion_burden(sliced / "shards")
                folds = draw_folds(cases, burden, options.folds, seed=options.split_seed)
            for preset, changes in product(options.preset, options.changes):
                title = f"{preset}{'' if changes == '{}' else ' ' + changes}, {size}×{size}"
                recipe = select_recipe(preset, json.loads(changes))
                tables[title] = []
                for number in options.only or range(1, len(folds) + 1):
                    row = score_fold(folder / "cases", sliced, folds, number, recipe, options)
                    print(f"{title}, fold {number}: Dice {row['dice']:.3f}, {row['seconds']:.0f} s", flush=True)
                    tables[title].append(row | {"preset": preset, "changes": changes, "image_size": size})
                    if options.results:
                        with options.results.open("a") as file:
                            file.write(json.dumps(tables[title][-1]) + "\n")
        print_tables(tables, {case.case_id: case.patient_id for case in cases})


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default=os.environ.get("SOURCE", _SYNTHETIC))  # `make bench SOURCE=…` sets it
    parser.add_argument("--masks", default="infection_masks")
    parser.add_argument("--folds", type=int, help="default 5, or 3 for the synthetic scans")
    parser.add_argument("--folds-file", type=Path, help="JSON file with the folds; by default they are drawn")
    parser.add_argument("--only", type=int, nargs="*", help="numbers of the folds to score, from 1")
    parser.add_argument("--preset", nargs="+", default=list(Preset), choices=list(Preset))
    parser.add_argument("--changes", nargs="+", help="settings that differ from the preset, as JSON")
    parser.add_argument("--image-size", type=int, nargs="+", default=[128])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split-seed", type=int, default=0)
    parser.add_argument("--variants", action="store_true", help="also thresholds, flip averaging and post-processing")
    parser.add_argument("--checkpoints", type=Path, help="folder from which an interrupted run resumes")
    parser.add_argument("--results", type=Path, help="file to append a line of JSON to for each fold")
    options = parser.parse_args()
    synthetic = options.source == _SYNTHETIC
    options.folds = options.folds or (3 if synthetic else 5)
    options.changes = options.changes or ['{"epochs": 10}' if synthetic else "{}"]
    return options


def score_fold(
    cases: Path, sliced: Path, folds: list[list[str]], number: int, recipe: Recipe, options: argparse.Namespace
) -> dict:
    """Train without one fold and score it; return time, history and the Dice of each case by variant."""
    others = sorted(case for index, fold in enumerate(folds, 1) if index != number for case in fold)
    parts = {"train": others, "validation": others[:: len(folds)], "test": folds[number - 1]}
    copy_shards(sliced / "shards", sliced / "fold", parts)
    cpu_seconds = time.process_time()
    model = sliced / "model"
    run = train(sliced / "fold", model, recipe=recipe, seed=options.seed, checkpoints=options.checkpoints)
    cpu_seconds = time.process_time() - cpu_seconds
    network, predict = keras_network(load_model(model / MODEL_FILE)), mask_variants if options.variants else plain_mask
    scores: dict[str, dict[str, float]] = {}
    for case in read_cases(cases):
        if case.case_id in folds[number - 1]:
            scan = LabeledScan.read(cases, case)
            for variant, mask in predict(network, scan.slices_hu, run.image_size).items():
                scores.setdefault(variant, {})[case.case_id] = dice(scan.truth, mask)
    history = {name: [round(value, 4) for value in series] for name, series in run.history.items()}
    row = {"fold": number, "dice": fmean(scores[PLAIN].values()), "cases": scores, "seconds": run.seconds}
    return {**row, "cpu_seconds": round(cpu_seconds, 1), "seed": options.seed, "history": history}


def print_tables(tables: dict[str, list[dict]], patients: dict[str, str]) -> None:
    """Print a line for each recipe, then the differences of its variants; intervals are over patients."""

    def mean(values: dict[str, float], sign: str = "") -> str:
        interval = mean_interval([patients[case] for case in values], list(values.values()))
        between = f" ({interval.low:{sign}.3f} to {interval.high:{sign}.3f})" if interval else ""
        return f"{fmean(values.values()):{sign}.3f}{between}"

    width = max(map(len, tables))
    folds = [row["fold"] for row in next(iter(tables.values()))]
    print(f"\n{'Dice of fold':{width}}{''.join(f'{fold:7}' for fold in folds)}", end="")
    print("   ± sd   all cases, 95 % interval     s  CPU s a fold")
    differences = []
    for title, rows in tables.items():
        variants = {
            name: {case: value for row in rows for case, value in row["cases"][name].items()}
            for name in rows[0]["cases"]
        }
        dices = [row["dice"] for row in rows]
        deviation = f"{stdev(dices):.3f}" if len(dices) > 1 else "–"
        seconds, cpu_seconds = (fmean(row[name] for row in rows) for name in ("seconds", "cpu_seconds"))
        print(f"{title:{width}}{''.join(f'{value:7.3f}' for value in dices)}", end="")
        print(f"  {deviation:5}   {mean(variants[PLAIN]):24} {seconds:5.0f} {cpu_seconds:6.0f}")
        plain = variants.pop(PLAIN)
        differences += [f"\n{title}, against {PLAIN}:"] if variants else []
        for name, scores in variants.items():
            differences.append(f"  {name:34}{mean({case: scores[case] - plain[case] for case in plain}, '+')}")
    print("\n".join(differences))


if __name__ == "__main__":
    main()
