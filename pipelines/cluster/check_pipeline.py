"""A pipeline whose only step fails at its first attempt: it shows whether the cluster retries steps."""

from pathlib import Path

import yaml  # type: ignore[import-untyped]
from kfp import compiler, dsl

from pipelines.cluster.compile_options import ClusterOptions, for_cluster

FAILING_STEP = "Fail once"


def compile_failing_pipeline(package: Path, image: str, options: ClusterOptions, name: str) -> None:
    """Compile the pipeline to `package`, with the settings of all steps, on an image that the cluster can pull."""

    def fail_once() -> None:
        """Fail unless this is a retry; the backend counts attempts from 0 (component/constants.go, EnvRetryIndex)."""
        import os
        import sys

        if os.environ.get("KFP_RETRY_INDEX") == "0":
            sys.exit("error: this step fails at its first attempt, to see whether it is retried")

    step = dsl.component(base_image=image, install_kfp_package=False)(fail_once)

    @dsl.pipeline(name=name, description="A step that fails once, to see whether the cluster retries it.")
    def failing() -> None:
        step()

    compiler.Compiler().compile(for_cluster(failing, options), str(package))


def data_image(package: Path) -> str:
    """The image of the data steps in a compiled package."""
    executors = next(yaml.safe_load_all(package.read_text()))["deploymentSpec"]["executors"]
    return str(executors["exec-require-valid"]["container"]["image"])
