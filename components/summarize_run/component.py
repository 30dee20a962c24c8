"""The KFP interface of the summarize-run step."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.DATA, install_kfp_package=False)
def summarize_run(summary: dsl.Output[dsl.Markdown], status: dsl.PipelineTaskFinalStatus, pipeline: str = "") -> None:
    """Summarize how a cluster run ended, as its last step.

    Args:
        summary: The final state and, after a failure, its reason.
        status: The run's final status, filled in by Kubeflow.
        pipeline: Name of the pipeline.
    """
    import logging
    from pathlib import Path

    from components.runtime.step import step_process

    with step_process():
        lines = [f"# {pipeline}: {status.state}", "", f"Run: {status.pipeline_job_resource_name}"]
        if status.error_message:
            lines += ["", f"Reason: {status.error_message}"]
        Path(summary.path).write_text("\n".join(lines) + "\n")
        logging.getLogger("components.summarize_run").info("\n".join(line for line in lines if line))
