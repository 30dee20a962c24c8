"""The pipelines that chain the components, and the `lung-ct` command."""

from typing import Literal

PipelineName = Literal["training", "cross-validation", "batch-prediction"]
RunnerName = Literal["subprocess", "docker"]
