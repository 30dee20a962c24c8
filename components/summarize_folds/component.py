"""The KFP interface of the summarize-folds step."""

from typing import NamedTuple

from kfp import dsl

from components import images


@dsl.component(base_image=images.CPU, install_kfp_package=False)
def summarize_folds(
    numbers: list,
    evaluations: dsl.Input[list[dsl.Artifact]],
    table: dsl.Output[dsl.Dataset],
    report: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
) -> NamedTuple("Outputs", mean_dice=float, sd_dice=float):  # type: ignore[valid-type]
    """Put the scores of all folds together.

    Args:
        numbers: The folds' numbers, in the order of the evaluations.
        evaluations: Output of evaluate for each fold.
        table: cases.csv, every case of the cohort once, with its fold and its scores.
        report: A page with the folds, the mean with its interval, and every case.
        metrics: The mean over folds with its standard deviation, and the mean over cases with its interval.

    Returns:
        mean_dice: Mean of the folds' mean Dice.
        sd_dice: Standard deviation of the folds' mean Dice.
    """
    from pathlib import Path

    from components.runtime.step import step_process

    with step_process():
        from components.summarize_folds.fold_scores import read_folds_scores, write_table

        found = read_folds_scores([int(number) for number in numbers], [Path(one.path) for one in evaluations])
        write_table(found, Path(table.path), Path(report.path))
    for name, value in found.summary().items():
        metrics.log_metric(name, value)
    return found.mean, found.sd
