"""The KFP interface of the require-valid step."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.DATA, install_kfp_package=False)
def require_valid(refusal: str) -> None:
    """Fail the run if validate refused the cohort.

    Args:
        refusal: The reason, from validate; empty for an accepted cohort.
    """
    import sys

    if refusal:
        sys.exit(f"error: {refusal}")
