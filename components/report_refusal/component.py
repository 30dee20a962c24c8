"""The KFP interface of the report-refusal step."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.CPU, install_kfp_package=False)
def report_refusal(evaluation: dsl.Input[dsl.Artifact], refusal: dsl.Output[dsl.Markdown]) -> None:
    """Say why nothing was exported; the run itself succeeds.

    Args:
        evaluation: The verdict of evaluate.
        refusal: The reasons, for the UI.
    """
    from pathlib import Path

    from components.runtime.step import step_process

    with step_process():
        from components.evaluate.verdict import read_verdict

        verdict = read_verdict(Path(evaluation.path) / "verdict.json")
        lines = ["# Not exported", *(f"- {reason}" for reason in verdict.reasons)]
        Path(refusal.path).write_text("\n".join(lines) + "\n")
        print("\n".join(lines), flush=True)
