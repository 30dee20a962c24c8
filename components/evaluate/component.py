"""The KFP interface of the evaluate step."""

from typing import NamedTuple, Optional

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
    champion: Optional[str] = None,  # noqa: UP045 - kfp reads no other spelling
    hard_cases: list[str] = [],  # noqa: B006 - kfp copies a default into each run
    data_license: str = "not stated",
) -> NamedTuple("Outputs", verdict=str, test_dice=float, verdict_sha256=str):  # type: ignore[valid-type]
    """Evaluate a trained model on the test cases of its split, on the scans' own voxels, and apply the gate.

    Args:
        cases: Scans and masks, from ingest.
        shards: TFRecord shards with split.json, from slice.
        model: The trained network with its history, from train.
        evaluation: The verdict with its reasons, the table of test cases, and an overlay of each.
        metrics: Metrics of the test cases.
        classification: ROC curve and confusion matrix of the test cases' voxels.
        report: HTML page with the verdict, the table, overlays and plots.
        model_card: Intended use, data, metrics with intervals, caveats and digests.
        min_dice: Minimum mean Dice of the test cases with lesion, 0 to 1; a value equal to it passes.
        min_dice_ci: Minimum lower end of that mean's 95 % interval; 0 disables the rule.
        min_case_dice: Minimum Dice of the worst case with 0.5 mL of lesion or more; 0 disables the rule.
        min_site_dice: Minimum mean Dice of each site; 0 disables the rule.
        max_false_positive_ml: Maximum volume predicted in a test scan without lesion.
        max_regression: Maximum drop of the mean Dice below the served version's, on the same cases.
        champion: Folder of the served version, or the model base, whose newest version is served; a path or
            gs://bucket/prefix. None, or a model base without versions, for a first model.
        hard_cases: Ids of known hard cases; the mean is reported with and without them.
        data_license: License of the data, for the model card.

    Returns:
        verdict: "pass" or "fail".
        test_dice: Mean Dice of the test cases with lesion; 0 without any.
        verdict_sha256: SHA-256 of verdict.json, for export.
    """
    from pathlib import Path

    from components.runtime.step import step_process

    with step_process():
        from components.evaluate.evaluate import Inputs, Outputs, evaluate_model
        from components.evaluate.limits import GateLimits

        limits = GateLimits(
            min_dice=min_dice,
            min_dice_ci=min_dice_ci,
            min_case_dice=min_case_dice,
            min_site_dice=min_site_dice,
            max_false_positive_ml=max_false_positive_ml,
            max_regression=max_regression,
            hard_cases=tuple(hard_cases),
        )
        result = evaluate_model(
            Inputs(Path(cases.path), Path(shards.path), Path(model.path), champion),
            Outputs(Path(evaluation.path), Path(report.path), Path(model_card.path)),
            limits,
            data_license,
        )
    for name, value in result.summary().items():
        metrics.log_metric(name, value)
    roc = result.counts.roc()
    if roc:
        rates = roc.false_positive_rate.tolist(), roc.true_positive_rate.tolist()
        classification.log_roc_curve(*rates, roc.threshold.tolist())
    voxels = result.counts.confusion(result.threshold_choice.threshold)
    classification.log_confusion_matrix(
        ["lesion", "background"],
        [[voxels.true_positive, voxels.false_negative], [voxels.false_positive, voxels.true_negative]],
    )
    return result.verdict.verdict, result.verdict.test_dice, result.verdict.sha256
