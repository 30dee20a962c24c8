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
    """Show the worst test case in 3-D, with ground truth and prediction.

    A separate step, because the UI shows one page per step.

    Args:
        cases: Scans and masks, from ingest.
        shards: TFRecord shards with split.json, from slice.
        model: The trained network, from train.
        evaluation: The verdict and the table of test cases, from evaluate.
        report: HTML page with the scan, both masks and the viewer.
    """
    from pathlib import Path

    from components.runtime.step import step_process

    with step_process():
        from components.view_3d.view import view_worst_case

        view_worst_case(
            cases=Path(cases.path),
            shards=Path(shards.path),
            model=Path(model.path),
            evaluation=Path(evaluation.path),
            page=Path(report.path),
        )
