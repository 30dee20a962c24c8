"""The KFP interface of the select-fold step."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.CPU, install_kfp_package=False)
def select_fold(
    shards: dsl.Input[dsl.Dataset],
    assignment: dsl.Input[dsl.Artifact],
    number: int,
    fold_shards: dsl.Output[dsl.Dataset],
) -> None:
    """Select the shards of one fold: tested on it, validated on the next fold, trained on the others.

    Args:
        shards: TFRecord shards of the whole cohort, from slice.
        assignment: The case ids of each fold, from assign_folds.
        number: Number of the fold, from 1.
        fold_shards: The same shards in the fold's split.
    """
    from pathlib import Path

    from components.runtime.step import step_process

    with step_process():
        from components.select_fold.selection import select_fold as write_fold

        write_fold(Path(shards.path), Path(assignment.path), Path(fold_shards.path), number=number)
