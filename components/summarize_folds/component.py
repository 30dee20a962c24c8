"""The KFP interface of the summarize-folds step."""

from typing import NamedTuple

from kfp import dsl

from components import images


@dsl.component(base_image=images.CPU, install_kfp_package=False)
def summarize_folds(
    assignment: dsl.Input[dsl.Artifact],
    evaluations: dsl.Input[list[dsl.Artifact]],
    table: dsl.Output[dsl.Dataset],
    report: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
) -> NamedTuple("Outputs", mean_dice=float, sd_dice=float):  # type: ignore[valid-type]
    """Summarize the scores of all folds.

    Args:
        assignment: The case ids of each fold, from assign_folds.
        evaluations: Output of evaluate for each fold, in any order.
        table: cases.csv, every case of the cohort with its fold and scores.
        report: HTML page with the folds, the mean with its interval, and every case.
        metrics: Mean over folds with standard deviation, and mean over cases with interval, of the cases with lesion.

    Returns:
        mean_dice: Mean of the folds' mean Dice.
        sd_dice: Standard deviation of the folds' mean Dice.
    """
    from pathlib import Path

    from components.runtime.step import step_process

    with step_process():
        from components.summarize_folds.fold_scores import read_fold_scores, write_fold_scores

        scores = read_fold_scores(Path(assignment.path), [Path(folder.path) for folder in evaluations])
        write_fold_scores(scores, Path(table.path), Path(report.path))
    for name, value in scores.summary().items():
        metrics.log_metric(name, value)
    return scores.mean, scores.sd
