"""The KFP interface of the report-refusal step."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.CPU, install_kfp_package=False)
def report_refusal(evaluation: dsl.Input[dsl.Artifact], refusal: dsl.Output[dsl.Markdown]) -> None:
    """Report why the gate refused the model; the run itself succeeds.

    Args:
        evaluation: The verdict, from evaluate.
        refusal: The reasons, for the UI.
    """
    import logging
    from pathlib import Path

    from components.runtime.step import step_process

    with step_process():
        from components.evaluate.verdict import read_verdict
        from serving.versions.layout import VERDICT_FILE

        verdict = read_verdict(Path(evaluation.path) / VERDICT_FILE)
        lines = "\n".join(["# Not exported", *(f"- {reason}" for reason in verdict.reasons)])
        Path(refusal.path).write_text(f"{lines}\n")
        logging.getLogger("components.report_refusal").info("%s", lines)
