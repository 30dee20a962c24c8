"""The KFP interface of the assign-folds step."""

from typing import List, Optional  # noqa: UP035 - kfp reads no other spelling

from kfp import dsl

from components import images


@dsl.component(base_image=images.CPU, install_kfp_package=False)
def assign_folds(
    accepted: dsl.Input[dsl.Dataset],
    shards: dsl.Input[dsl.Dataset],
    assignment: dsl.Output[dsl.Artifact],
    folds: int = 5,
    folds_file: Optional[str] = None,  # noqa: UP045 - the one spelling that KFP accepts
    seed: int = 0,
) -> List[int]:  # noqa: UP006 - a plain list would make each loop item a string
    """Assign patients to folds with low and high lesion burdens in each, or use a benchmark's own folds.

    Args:
        accepted: The case table accepted by validate.
        shards: TFRecord shards of the whole cohort, from slice.
        assignment: folds.json, the case ids of each fold.
        folds: Number of folds, 3 or more.
        folds_file: JSON file with the folds, a list of lists of case ids. By default the seed draws them.
        seed: Seed of the draw.

    Returns:
        The fold numbers, from 1. The output has no name, because kfp 2.17.0's local runner loops over no named output.
    """
    from pathlib import Path

    from components.runtime.step import step_process

    with step_process():
        from components.assign_folds.folds import write_folds

        fold_case_ids = write_folds(
            Path(accepted.path),
            Path(shards.path),
            Path(assignment.path),
            count=folds,
            folds_file=Path(folds_file) if folds_file else None,
            seed=seed,
        )
    return list(range(1, len(fold_case_ids) + 1))
