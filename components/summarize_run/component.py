"""The last step of a run on a cluster: how it ended, in words, whatever happened."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.DATA, install_kfp_package=False)
def summarize_run(
    summary: dsl.Output[dsl.Markdown],
    status: dsl.PipelineTaskFinalStatus,
    pipeline: str = "",
) -> None:
    """Write down how the run ended.

    Args:
        summary: State and, where it failed, the reason, for the UI.
        status: What the cluster says; filled in by it.
        pipeline: Name of the pipeline.
    """
    from pathlib import Path

    lines = [f"# {pipeline}: {status.state}", "", f"Run: {status.pipeline_job_resource_name}"]
    if status.error_message:
        lines += ["", f"Reason: {status.error_message}"]
    Path(summary.path).write_text("\n".join(lines) + "\n")
    print("\n".join(line for line in lines if line), flush=True)
