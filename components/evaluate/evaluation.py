"""The whole evaluation: choose the threshold on validation, score every test case, decide, and show it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.ct.cases import Case
from components.ct.inference import Network, keras_network
from components.evaluate.case import CaseResult, count_levels, score_case
from components.evaluate.champion import Champion, Comparison
from components.evaluate.cohort import groups
from components.evaluate.detection import slice_auc
from components.evaluate.labeled_scan import HeldOut
from components.evaluate.levels import LevelCounts
from components.evaluate.model_card import write_model_card
from components.evaluate.outcome import Evaluation
from components.evaluate.report import write_report
from components.evaluate.rules import Limits, gate_rules
from components.evaluate.scores import write_scores
from components.evaluate.threshold import ThresholdChoice, choose_threshold
from components.evaluate.verdict import judge
from components.runtime.errors import InputError
from components.runtime.files import atomic_write, sha256_of
from components.train.network import load_model
from serving.versions.publication import local_copy
from serving.versions.served_version import served_version, version_name

MODEL, TRAINING, OVERLAYS = "model.keras", "training.json", "overlays"
CARD = "model_card.md"  # beside the verdict too, since export takes both along


@dataclass(frozen=True)
class Inputs:
    """What an evaluation is made of.

    Attributes:
        cases: output of ingest.
        shards: output of slice; only its split is read, the volumes come from `cases`.
        model: output of train, with `model.keras` and `training.json`.
        champion: the served version, or the folder of all of a model's versions, a path or `gs://bucket/prefix`;
            empty, or a folder without a version, for a model's first.
    """

    cases: Path
    shards: Path
    model: Path
    champion: str = ""


@dataclass(frozen=True)
class Outputs:
    """What an evaluation writes, each whole or not at all.

    Attributes:
        evaluation: folder for `verdict.json`, `cases.csv`, `model_card.md` and `overlays/`.
        report: HTML page.
        model_card: Markdown.
    """

    evaluation: Path
    report: Path
    model_card: Path


def evaluate_model(inputs: Inputs, outputs: Outputs, limits: Limits, data_license: str = "not stated") -> Evaluation:
    """Judge a trained model on the held-out cases of its own split, one volume in memory at a time.

    Args:
        inputs: what to judge, and on what.
        outputs: what to write.
        limits: what is asked of the model.
        data_license: under which terms the scans may be used, in words, for the model card.

    Raises:
        InputError: something to evaluate is missing, changed since it was ingested, or the model is broken.
    """
    held_out = HeldOut.read(inputs.cases, inputs.shards)
    training = _training(inputs.model)
    network = keras_network(load_model(inputs.model / MODEL))
    champion, unloadable = _champion(inputs.champion)
    size = held_out.image_size
    choice = choose_threshold([count_levels(network, inputs.cases, case, size) for case in held_out.validation])
    with atomic_write(outputs.evaluation) as folder:
        (folder / OVERLAYS).mkdir(parents=True)
        results = [_judged(network, inputs.cases, case, size, choice, champion, folder) for case in held_out.test]
        scores = [result.score for result in results]
        comparison = Comparison.of(champion, scores) if champion else unloadable
        asked = gate_rules(scores, limits, comparison)
        digest = sha256_of(inputs.model / MODEL)
        found = Evaluation(
            verdict=judge(asked.rules, scores, digest, choice.threshold, asked.not_applied),
            scores=scores,
            choice=choice,
            counts=LevelCounts.pooled(result.counts for result in results),
            slice_auc=_slice_auc(results),
            groups=groups(scores, limits.hard_cases),
            comparison=comparison,
            held_out=held_out,
            training=training,
            limits=limits,
        )
        write_scores(folder, scores)
        found.verdict.write(folder)
        write_report(outputs.report, found, folder / OVERLAYS)
        for card in (folder / CARD, outputs.model_card):
            write_model_card(card, found, data_license)
    return found


def _judged(
    network: Network,
    cases: Path,
    case: Case,
    size: int,
    choice: ThresholdChoice,
    champion: Champion | None,
    folder: Path,
) -> CaseResult:
    result = score_case(network, cases, case, size, choice.threshold, champion)
    (folder / OVERLAYS / f"{case.case_id}.svg").write_bytes(result.overlay)
    print(f"test case {case.case_id}: Dice {result.score.dice:.3f}", flush=True)
    return result


def _slice_auc(results: list[CaseResult]) -> float | None:
    if not results:
        return None
    return slice_auc(
        np.concatenate([result.has_lesion for result in results]),
        np.concatenate([result.highest for result in results]),
    )


def _champion(base: str) -> tuple[Champion | None, Comparison | None]:
    """The served version, or where it cannot be loaded the comparison that keeps the gate shut; neither without one."""
    version = served_version(base)
    if version is None:
        return None, None
    name = version_name(version)
    with local_copy(version) as folder:
        try:
            return Champion.load(folder, name), None
        except InputError as error:
            print(f"warning: {error}", flush=True)
            return None, Comparison(name, None, problem=", which cannot be loaded (roll back to one that can)")


def _training(model_folder: Path) -> Mapping[str, Any]:
    path = model_folder / TRAINING
    try:
        training = json.loads(path.read_text())
        training["history"].values()
        return training
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: no history of the training ({error}); give the output of train") from error
