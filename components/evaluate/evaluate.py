"""The evaluate step: choose the threshold, score every test case, apply the gate, and write report and model card."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from components.ct.inference import keras_network
from components.evaluate.champion import Champion
from components.evaluate.cohort import Comparison, group_scores, slice_auc
from components.evaluate.evaluation import Evaluation
from components.evaluate.labeled_scan import SplitCases
from components.evaluate.levels import LevelCounts, choose_threshold
from components.evaluate.limits import GateLimits
from components.evaluate.model_card import write_model_card
from components.evaluate.report import write_report
from components.evaluate.scores import CaseResult, CaseScore, count_levels, score_case, with_lesion, write_scores
from components.evaluate.verdict import judge
from components.runtime.errors import InputError
from components.runtime.files import atomic_folder, sha256_of
from components.runtime.json_file import read_json
from components.train import MODEL_FILE, TRAINING_FILE
from components.train.network import load_model
from serving.versions.layout import MODEL_CARD_FILE, local_copy, newest_version, version_name

OVERLAYS_FOLDER = "overlays"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """The inputs of an evaluation."""

    cases: Path  # output of ingest
    shards: Path  # output of slice; only its split is read
    model: Path  # output of train
    champion: str | None = None  # version or model base, a path or `gs://bucket/prefix`; None for a first model


@dataclass(frozen=True)
class Outputs:
    """The outputs of an evaluation, each written atomically."""

    evaluation: Path  # folder with the verdict, the table of scores, the model card and the overlays
    report: Path  # HTML
    model_card: Path  # Markdown


def evaluate_model(
    inputs: Inputs, outputs: Outputs, limits: GateLimits, data_license: str = "not stated"
) -> Evaluation:
    """Evaluate a trained model on the test cases of its split, one volume in memory at a time.

    Args:
        inputs: the model and the cases.
        outputs: where to write the results.
        limits: the gate's parameters.
        data_license: license of the data, for the model card.

    Raises:
        InputError: an input is missing or changed since ingest, or the model returns NaN or infinity.
    """
    split_cases = SplitCases.read(inputs.cases, inputs.shards)
    size = split_cases.image_size
    training = _read_training(inputs.model)
    network = keras_network(load_model(inputs.model / MODEL_FILE))
    champion, failed_comparison = _load_champion(inputs.champion)
    choice = choose_threshold([count_levels(network, inputs.cases, case, size) for case in split_cases.validation])
    with atomic_folder(outputs.evaluation) as folder:
        overlays = folder / OVERLAYS_FOLDER
        overlays.mkdir()
        results = []
        for case in split_cases.test:
            result = score_case(network, inputs.cases, case, size=size, threshold=choice.threshold, champion=champion)
            (overlays / f"{case.case_id}.svg").write_bytes(result.overlay)
            results.append(result)
            _log.info("test case %s: %s", case.case_id, result.score.summary)
        scores = [result.score for result in results]
        comparison = _compare(champion, scores) if champion else failed_comparison
        model_sha256 = sha256_of(inputs.model / MODEL_FILE)
        evaluation = Evaluation(
            verdict=judge(scores, limits, comparison, model_sha256=model_sha256, threshold=choice.threshold),
            scores=scores,
            threshold_choice=choice,
            counts=LevelCounts.pool(result.counts for result in results),
            slice_auc=_slice_auc(results),
            groups=group_scores(scores, limits.hard_cases),
            comparison=comparison,
            split_cases=split_cases,
            training=training,
        )
        write_scores(folder, scores)
        write_report(outputs.report, evaluation, overlays)
        for card in (folder / MODEL_CARD_FILE, outputs.model_card):
            write_model_card(card, evaluation, data_license)
        verdict = replace(evaluation.verdict, model_card_sha256=sha256_of(folder / MODEL_CARD_FILE))
        verdict.write(folder)
    return replace(evaluation, verdict=verdict)


def _slice_auc(results: list[CaseResult]) -> float | None:
    if not results:
        return None
    return slice_auc(
        np.concatenate([result.has_lesion for result in results]), np.concatenate([result.peak for result in results])
    )


def _load_champion(base: str | None) -> tuple[Champion | None, Comparison | None]:
    """Load the served version, if there is one; if it cannot be loaded, return a comparison that fails the gate."""
    version = newest_version(base) if base else None
    if version is None:
        return None, None
    name = version_name(version)
    with local_copy(version) as folder:
        try:
            return Champion.load(folder, name), None
        except InputError as error:
            _log.warning("%s", error)
            return None, Comparison(name, problem="cannot be loaded")


def _compare(champion: Champion, scores: Sequence[CaseScore]) -> Comparison:
    unknown = sum(row.sha256_scan not in champion.test_scan_digests for row in with_lesion(scores))
    return Comparison.from_scores(scores, champion.name, unknown_cases=unknown)


def _read_training(model: Path) -> Mapping[str, Any]:
    def parse(training: Any) -> Mapping[str, Any]:
        training["history"].values()
        return training

    return read_json(model / TRAINING_FILE, parse, "the training history; run train again")
