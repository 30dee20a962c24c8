"""The KFP interface of the require-valid step."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.DATA, install_kfp_package=False)
def require_valid(refusal: str) -> None:
    """End the run here if validate refused the cohort.

    Args:
        refusal: Why, from validate; empty where it did not.
    """
    import sys

    if refusal:
        sys.exit(f"error: {refusal}")
