"""The KFP interface of the 3-D view."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.CPU, install_kfp_package=False)
def view_3d(
    cases: dsl.Input[dsl.Dataset],
    shards: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
) -> None:
    """Show the worst test case that is not trivial in 3-D, with the lesion as it was drawn and as it was marked.

    A step of its own, since the UI shows one page of a step's, and another one beside the report might hide it.

    Args:
        cases: Scans and masks, from ingest.
        shards: TFRecord shards with split.json, from slice.
        model: The trained network, from train.
        evaluation: The verdict and the table of the test cases, from evaluate.
        report: A page that holds the scan, both masks and the program that draws them.
    """
    from pathlib import Path

    from components.runtime.step import step_process

    with step_process():
        from components.view_3d.view import view_worst_case

        view_worst_case(*(Path(part.path) for part in (cases, shards, model, evaluation, report)))
