"""The KFP interfaces of cross-validation's own steps; slice, train and evaluate are those of the training pipeline."""

from typing import NamedTuple, Optional

from kfp import dsl

from components import images


@dsl.component(base_image=images.CPU, install_kfp_package=False)
def assign_folds(
    accepted: dsl.Input[dsl.Dataset],
    shards: dsl.Input[dsl.Dataset],
    assignment: dsl.Output[dsl.Artifact],
    folds: int = 5,
    folds_file: Optional[str] = None,  # noqa: UP045 - the one spelling that KFP knows
    seed: int = 0,
) -> list:
    """Deal patients out into folds with light and heavy cases in each, or take a benchmark's own folds.

    Args:
        accepted: The case table that validate let through.
        shards: TFRecord shards of the whole cohort, from slice.
        assignment: folds.json, the case ids of each fold.
        folds: How many, 3 or more.
        folds_file: JSON file with given folds, a list of lists of case ids, in place of drawn ones.
        seed: Seed of the draw.

    Returns:
        The folds' numbers, from 1; without a name, since kfp 2.17.0's local runner loops over no named output.
    """
    from pathlib import Path

    from components.ct.errors import told_in_one_line

    with told_in_one_line():
        from components.cross_validation.assignment import assign

        given = Path(folds_file) if folds_file else None
        count = assign(Path(accepted.path), Path(shards.path), Path(assignment.path), folds, given, seed)
    return list(range(1, count + 1))


@dsl.component(base_image=images.CPU, install_kfp_package=False)
def take_fold(
    shards: dsl.Input[dsl.Dataset],
    assignment: dsl.Input[dsl.Artifact],
    number: int,
    fold_shards: dsl.Output[dsl.Dataset],
) -> None:
    """Arrange a cohort's shards for one fold: tested on it, validated on the next one, trained on the others.

    Args:
        shards: TFRecord shards of the whole cohort, from slice.
        assignment: The case ids of each fold, from assign_folds.
        number: Which fold, from 1.
        fold_shards: The same shards in the fold's own split.
    """
    from pathlib import Path

    from components.ct.errors import told_in_one_line

    with told_in_one_line():
        from components.cross_validation.assignment import assigned
        from components.slice import folds

        folds.take_fold(Path(shards.path), Path(fold_shards.path), assigned(Path(assignment.path)), number)


@dsl.component(base_image=images.CPU, install_kfp_package=False)
def fold_table(
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

    from components.ct.errors import told_in_one_line

    with told_in_one_line():
        from components.cross_validation.table import read_folds_scores, write_table

        found = read_folds_scores([int(number) for number in numbers], [Path(one.path) for one in evaluations])
        write_table(found, Path(table.path), Path(report.path))
    for name, value in found.summary().items():
        metrics.log_metric(name, value)
    return found.mean, found.sd
