"""The whole evaluation: choose the threshold on validation, score every test case, decide, and show it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.ct.atomic import written_whole
from components.ct.cases import Case, sha256_of
from components.ct.errors import InputError
from components.evaluate.figures import overlay, shown_slice
from components.evaluate.inference import lesion_probability
from components.evaluate.labelled_scan import HeldOut, LabelledScan
from components.evaluate.report import write_report
from components.evaluate.rules import Limits, gate_rules
from components.evaluate.scores import CaseScore, score, write_scores
from components.evaluate.threshold import LevelCounts, ThresholdChoice, choose_threshold
from components.evaluate.verdict import Verdict, judge
from components.train.network import load_model

MODEL, TRAINING, OVERLAYS = "model.keras", "training.json", "overlays"


@dataclass(frozen=True)
class Evaluation:
    """What came out: the verdict, the test cases' scores, and how the threshold was chosen."""

    verdict: Verdict
    scores: list[CaseScore]
    choice: ThresholdChoice

    def summary(self) -> dict[str, float]:
        """Finite numbers for a table of runs."""
        numbers = {
            "test_dice": self.verdict.test_dice,
            "validation_dice": self.choice.validation_dice,
            "threshold": self.choice.threshold,
            "test_cases": float(len(self.scores)),
        }
        if self.scores:
            numbers["test_dice_median"] = median(row.dice for row in self.scores)
            numbers["test_dice_worst"] = min(row.dice for row in self.scores)
            for name in ("sensitivity", "precision", "dice_of_nothing"):
                numbers[f"test_{name}"] = fmean(getattr(row, name) for row in self.scores)
        return numbers


def evaluate_model(
    cases_folder: Path, shards: Path, model_folder: Path, output: Path, report: Path, limits: Limits
) -> Evaluation:
    """Judge a trained model on the held-out cases of its own split, one volume in memory at a time.

    Args:
        cases_folder: output of ingest.
        shards: output of slice; only its split is read, the volumes come from `cases_folder`.
        model_folder: output of train, with `model.keras` and `training.json`.
        output: folder to write, whole or not at all: `verdict.json`, `cases.csv`, `overlays/`.
        report: HTML file to write.
        limits: what is asked of the model.

    Raises:
        InputError: something to evaluate is missing, changed since it was ingested, or the model is broken.
    """
    held_out = HeldOut.read(cases_folder, shards)
    history = _training_history(model_folder)
    model = load_model(model_folder / MODEL)
    choice = choose_threshold(
        [count_levels(model, cases_folder, case, held_out.image_size) for case in held_out.validation]
    )
    with written_whole(output) as temporary:
        (temporary / OVERLAYS).mkdir(parents=True)
        scores = []
        for case in held_out.test:
            row, picture = score_case(model, cases_folder, case, held_out.image_size, choice.threshold)
            (temporary / OVERLAYS / f"{case.case_id}.png").write_bytes(picture)
            scores.append(row)
            print(f"test case {case.case_id}: Dice {row.dice:.3f}", flush=True)
        verdict = judge(gate_rules(scores, limits), scores, sha256_of(model_folder / MODEL), choice.threshold)
        write_scores(temporary, scores)
        verdict.write(temporary)
        write_report(report, verdict, scores, choice, history, temporary / OVERLAYS)
    return Evaluation(verdict, scores, choice)


def count_levels(model: Any, folder: Path, case: Case, size: int) -> LevelCounts:
    """Count a case's voxels by the probability they are given, on the scan's own grid."""
    scan, counts = LabelledScan.read(folder, case), LevelCounts()
    for part, probability in _probability(model, scan, size):
        counts.add(probability, scan.truth[part])
    return counts


def score_case(model: Any, folder: Path, case: Case, size: int, threshold: float) -> tuple[CaseScore, bytes]:
    """Score a case on the scan's own grid, and draw its overlay as PNG."""
    scan = LabelledScan.read(folder, case)
    prediction: NDArray[np.bool_] = np.empty(scan.truth.shape, bool)
    for part, probability in _probability(model, scan, size):
        np.greater_equal(probability, threshold, out=prediction[part])
    shown = shown_slice(scan.truth, prediction)
    picture = overlay(scan.slices_hu[shown], scan.truth[shown], prediction[shown], scan.spacing_mm[1:])
    return score(scan, prediction), picture


def _probability(model: Any, scan: LabelledScan, size: int) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    try:
        yield from lesion_probability(model, scan.slices_hu, size)
    except InputError as error:
        raise InputError(f"case {scan.case.case_id}: {error}") from error


def _training_history(model_folder: Path) -> Mapping[str, Sequence[float | None]]:
    path = model_folder / TRAINING
    try:
        return json.loads(path.read_text())["history"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: no history of the training ({error}); give the output of train") from error
