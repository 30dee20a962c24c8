"""The pipeline's steps in containers on this machine, by kfp's DockerRunner: with no rights, and no network."""

import os
from collections.abc import Sequence
from pathlib import Path

from kfp import local


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
