"""Local runs in containers: unprivileged, without network except for remote sources."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from kfp import local

from components.runtime.errors import InputError


def container_runner(
    writable: Sequence[Path] = (), readable: Sequence[Path] = (), network: bool = False
) -> local.DockerRunner:
    """Create a runner whose containers see only the pipeline root and the given folders, under their own paths.

    The containers run as the current user, who owns the pipeline root.

    Args:
        writable: folders that steps write to, such as the model base; created if missing.
        readable: folders that steps read, such as the source.
        network: whether the containers have network access, for remote sources.

    Raises:
        ImportError: the package `docker` is not installed.
    """
    from docker.types import Mount  # type: ignore[import-untyped]

    for folder in writable:
        folder.mkdir(parents=True, exist_ok=True)
    mounts = [
        Mount(str(folder.absolute()), str(folder.absolute()), type="bind", read_only=read_only)
        for folders, read_only in ((writable, False), (readable, True))
        for folder in folders
    ]
    return local.DockerRunner(
        user=f"{os.getuid()}:{os.getgid()}",
        mounts=mounts,
        read_only=True,
        tmpfs={"/tmp": "size=4g"},
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        **({} if network else {"network_mode": "none"}),
    )


@contextlib.contextmanager
def translate_engine_errors() -> Iterator[None]:
    """Raise `InputError` if the engine is unreachable, lacks an image, or cannot start a container."""
    from docker.errors import DockerException  # type: ignore[import-untyped]

    try:
        yield
    except DockerException as error:
        address = os.environ.get("DOCKER_HOST", "Docker's default socket")
        raise InputError(
            f"container engine at {address}: {error}; start it or set DOCKER_HOST, and run `make images`"
        ) from error


def unfinished_steps(folder: Path) -> list[str]:
    """Names of the steps in a run's folder that left no result.

    DockerRunner may report success for a container that failed (https://github.com/kubeflow/pipelines/issues/13332).
    """
    unfinished = []
    for step in folder.iterdir():
        if step.name.startswith("for-loop-"):  # the steps of one iteration
            unfinished += unfinished_steps(step)
        elif not (step / "executor_output.json").is_file():
            unfinished.append(step.name)
    return sorted(unfinished)
