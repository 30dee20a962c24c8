"""The KFP interface of the plan-parts step."""

from typing import List  # noqa: UP035 - kfp reads no other spelling

from kfp import dsl

from components import images


@dsl.component(base_image=images.CPU, install_kfp_package=False)
def plan_parts(source: str, parts: int = 4) -> List[str]:  # noqa: UP006
    """Find the scans and divide them into parts that run in parallel.

    Args:
        source: Folder of scans that every step can read, or gs://bucket/prefix.
        parts: Number of parts.

    Returns:
        The scans of each part, as JSON lists of names.
    """
    from components.runtime.step import step_process

    with step_process():
        from components.plan_parts.plan import divide_scans

        return divide_scans(source, parts)
