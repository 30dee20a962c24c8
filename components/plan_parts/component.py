"""The KFP interface of the plan-parts step."""

from typing import List

from kfp import dsl

from components import images


@dsl.component(base_image=images.CPU, install_kfp_package=False)
def plan_parts(source: str, parts: int = 4) -> List[str]:  # noqa: UP006
    """Find the scans and deal them out to parts that are segmented side by side.

    Args:
        source: A folder of scans that every step can read, or gs://bucket/prefix.
        parts: Number of parts.
    """
    from components.runtime.step import step_process

    with step_process():
        from components.predict import batch

        return batch.plan_parts(source, parts)
