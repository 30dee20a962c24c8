"""The KFP interfaces of the evaluate step, and of the 3-D view behind it."""

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
    classification: dsl.Output[dsl.ClassificationMetrics],
    report: dsl.Output[dsl.HTML],
    model_card: dsl.Output[dsl.Markdown],
    min_dice: float = 0.5,
    min_dice_ci: float = 0.0,
    min_case_dice: float = 0.0,
    min_site_dice: float = 0.0,
    max_false_positive_ml: float = 50.0,
    max_regression: float = 0.02,
    champion: str = "",
    hard_cases: list[str] = [],  # noqa: B006 - a KFP default is copied into each run
    data_license: str = "not stated",
) -> NamedTuple("Outputs", verdict=str, test_dice=float):  # type: ignore[valid-type]
    """Judge a trained model on test scans it never saw, each on the scan's own voxels.

    Args:
        cases: Scans and masks, from ingest.
        shards: TFRecord shards with split.json, from slice.
        model: The trained network with its history, from train.
        evaluation: The verdict with its reasons, a table of the test cases, and an overlay of each.
        metrics: The cohort's numbers.
        classification: ROC curve and confusion matrix of the test cases' voxels.
        report: A page with the verdict, the table, overlays and curves.
        model_card: Intended use, data, numbers with intervals, limits and digests.
        min_dice: Least mean Dice of the test cases, 0 to 1; equality is enough.
        min_dice_ci: Least lower end of that mean's 95 % interval; 0 asks for nothing.
        min_case_dice: Least Dice of the worst case with 0.5 mL of lesion or more; 0 asks for nothing.
        min_site_dice: Least mean Dice of each site; 0 asks for nothing.
        max_false_positive_ml: Most volume that may be marked in a test scan without lesion.
        max_regression: How far the mean Dice may fall below the served version's, on the same cases.
        champion: The served version's folder, or that of all versions, the newest of which is served; a path or
            gs://bucket/prefix. Without a version there the model is the first, which the report says.
        hard_cases: Ids of cases with which and without which the mean is reported.
        data_license: Under which terms the scans may be used, for the model card.

    Returns:
        verdict: "pass" or "fail".
        test_dice: Mean Dice of the test cases.
    """
    from pathlib import Path

    from components.runtime.step import step_process

    with step_process():
        from components.evaluate.evaluation import Inputs, Outputs, evaluate_model
        from components.evaluate.rules import Limits

        limits = Limits(
            min_dice,
            min_dice_ci,
            min_case_dice,
            min_site_dice,
            max_false_positive_ml,
            max_regression,
            tuple(hard_cases),
        )
        found = evaluate_model(
            Inputs(Path(cases.path), Path(shards.path), Path(model.path), champion),
            Outputs(Path(evaluation.path), Path(report.path), Path(model_card.path)),
            limits,
            data_license,
        )
    for name, value in found.summary().items():
        metrics.log_metric(name, value)
    roc = found.counts.roc()
    if roc:
        rates = roc.false_positive_rate.tolist(), roc.true_positive_rate.tolist()
        classification.log_roc_curve(*rates, roc.threshold.tolist())
    counted = found.counts.confusion(found.choice.threshold)
    classification.log_confusion_matrix(
        ["lesion", "background"],
        [[counted.true_positive, counted.false_negative], [counted.false_positive, counted.true_negative]],
    )
    return found.verdict.verdict, found.verdict.test_dice
