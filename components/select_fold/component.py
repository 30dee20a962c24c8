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
    """Arrange a cohort's shards for one fold: tested on it, validated on the next one, trained on the others.

    Args:
        shards: TFRecord shards of the whole cohort, from slice.
        assignment: The case ids of each fold, from assign_folds.
        number: Which fold, from 1.
        fold_shards: The same shards in the fold's own split.
    """
    from pathlib import Path

    from components.runtime.step import step_process

    with step_process():
        from components.assign_folds import folds
        from components.assign_folds.assignment import assigned

        folds.select_fold(Path(shards.path), Path(fold_shards.path), assigned(Path(assignment.path)), number)
