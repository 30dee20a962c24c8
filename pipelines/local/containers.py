"""The pipeline's steps in containers on this machine, by kfp's DockerRunner: with no rights, and no network."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from kfp import local

from components.runtime.errors import InputError


def container_runner(
    writable: Sequence[Path] = (), readable: Sequence[Path] = (), network: bool = False
) -> local.DockerRunner:
    """Make a runner whose containers see the pipeline root, these folders under their own names, and nothing else.

    The containers run as this user, who owns the pipeline root: the image's own user could not write there.

    Args:
        writable: folders that steps write to, such as the model base; made where missing.
        readable: folders that steps read, such as the source.
        network: whether they reach the network: for sources that are downloaded.

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
    """Raise `InputError` where no engine answers, or it has no such image, or cannot start a container."""
    from docker.errors import DockerException  # type: ignore[import-untyped]

    try:
        yield
    except DockerException as error:
        address = os.environ.get("DOCKER_HOST", "Docker's own socket")
        raise InputError(
            f"the container engine at {address}: {error}; expected one that runs (DOCKER_HOST says where) and has the "
            "images (`make images`)"
        ) from error


def unfinished(steps: Path) -> list[str]:
    """Steps that left no result, by name, in a run's folder of steps.

    DockerRunner reports success for a container that failed, where the container is gone before it is asked
    (https://github.com/kubeflow/pipelines/issues/13332): what was written is what counts.
    """
    left = []
    for step in steps.iterdir():
        if step.name.startswith("for-loop-"):  # holds the steps of one turn
            left += unfinished(step)
        elif not (step / "executor_output.json").is_file():
            left.append(step.name)
    return sorted(left)
