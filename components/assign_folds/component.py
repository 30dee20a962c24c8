"""The KFP interface of the assign-folds step."""

from typing import Optional

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

    from components.runtime.step import step_process

    with step_process():
        from components.assign_folds.assignment import assign

        given = Path(folds_file) if folds_file else None
        count = assign(Path(accepted.path), Path(shards.path), Path(assignment.path), folds, given, seed)
    return list(range(1, count + 1))
