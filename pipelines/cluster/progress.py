"""The progress and the outputs of a run on a Kubeflow cluster, by step."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.cluster.connection import Cluster


@dataclass(frozen=True)
class StepState:
    """State of a step; loops add an iteration, retries add attempts."""

    name: str  # display name, such as "Train U-Net"
    state: str  # RUNNING, SUCCEEDED, FAILED, SKIPPED, …
    iteration: tuple[int, ...] = ()  # index in each enclosing loop, outermost first
    attempts: int = 0  # pods started so far; 0 if the API does not tell
    cached: bool | None = None  # whether an earlier run's outputs were used; None if the API does not tell


@dataclass(frozen=True)
class RunEnd:
    """End of a run: its id, its state (SUCCEEDED, FAILED, SKIPPED or CANCELED), the cluster's reason and all steps."""

    run_id: str
    state: str
    reason: str
    steps: tuple[StepState, ...] = ()


def follow(cluster: Cluster, run_id: str, *, timeout_s: float, poll_s: float = 10.0) -> Iterator[StepState | RunEnd]:
    """Watch a run: yield a `StepState` for each change, then the `RunEnd`.

    Raises:
        InputError: the run takes longer than `timeout_s`, or the API is unreachable.
    """
    raise NotImplementedError


def read_artifact(cluster: Cluster, run_id: str, step: str, artifact: str) -> bytes:
    """Read an output artifact of a step, by the step's display name and the name of the output.

    Raises:
        InputError: the step did not run (it is cached or skipped), it has no such output, or the file is unreadable.
    """
    raise NotImplementedError


def delete_run(cluster: Cluster, run_id: str) -> None:
    """Delete a run; its artifacts stay in the pipeline root."""
    raise NotImplementedError


def delete_experiment(cluster: Cluster, name: str) -> None:
    """Delete an experiment by its name, if it exists."""
    raise NotImplementedError


def delete_pipeline(cluster: Cluster, pipeline_id: str) -> None:
    """Delete a pipeline with all its versions."""
    raise NotImplementedError
