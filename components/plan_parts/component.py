"""The KFP interface of the plan-parts step."""

from typing import List  # noqa: UP035 - kfp reads no other spelling

from kfp import dsl

from components import images


@dsl.component(base_image=images.CPU, install_kfp_package=False)
def plan_parts(source: str, plan: dsl.Output[dsl.Artifact], parts: int = 4) -> List[int]:  # noqa: UP006
    """Find the scans and divide them into parts that run in parallel.

    Args:
        source: Folder of scans that every step can read, or gs://bucket/prefix.
        plan: plan.json, the names of the scans of each part.
        parts: Number of parts.

    Returns:
        The part numbers, from 1.
    """
    from pathlib import Path

    from components.runtime.step import step_process

    with step_process():
        from components.plan_parts.plan import divide_scans, write_plan

        divided = divide_scans(source, parts)
        write_plan(divided, Path(plan.path))
    return list(range(1, len(divided) + 1))
