"""The KFP interface of the evaluate step."""

from typing import NamedTuple

from kfp import dsl

from components import images


@dsl.component(base_image=images.CPU, install_kfp_package=False)
def evaluate(
    cases: dsl.Input[dsl.Dataset],
    shards: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    evaluation: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    min_dice: float = 0.5,
) -> NamedTuple("Outputs", verdict=str, test_dice=float):  # type: ignore[valid-type]
    """Judge a trained model by its Dice on test scans it never saw, each on the scan's own voxels.

    Args:
        cases: Scans and masks, from ingest.
        shards: TFRecord shards with split.json, from slice.
        model: The trained network with its history, from train.
        evaluation: The verdict with its reasons, a table of the test cases, and an overlay of each.
        metrics: The cohort's numbers.
        report: A page with the verdict, the table, overlays and curves.
        min_dice: Least mean Dice of the test cases, 0 to 1; equality is enough.

    Returns:
        verdict: "pass" or "fail".
        test_dice: Mean Dice of the test cases.
    """
    from pathlib import Path

    from components.ct.errors import told_in_one_line

    with told_in_one_line():
        from components.evaluate.evaluation import evaluate_model
        from components.evaluate.rules import Limits

        found = evaluate_model(
            Path(cases.path),
            Path(shards.path),
            Path(model.path),
            Path(evaluation.path),
            Path(report.path),
            Limits(min_dice=min_dice),
        )
    for name, value in found.summary().items():
        metrics.log_metric(name, value)
    return found.verdict.verdict, found.verdict.test_dice
