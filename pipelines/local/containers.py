"""Local runs in containers: unprivileged, without network except for remote sources."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from kfp import local

from components.runtime.errors import InputError
from pipelines.local.processes import RunningSteps

# Parameters that may name local folders or files, by how containers mount them.
WRITABLE = ("model_base", "cache", "checkpoint_dir")
READABLE = ("source", "reference_profile", "pseudonym_key_file", "folds_file", "model", "signing_key_file")


def container_runner(arguments: Mapping[str, Any]) -> local.DockerRunner:
    """Create a runner whose containers see only the pipeline root and the arguments' folders, under their own paths.

    The containers run as the current user, who owns the pipeline root. They have a network only for remote sources.

    Raises:
        ImportError: the package `docker` is not installed.
    """
    from docker.types import Mount  # type: ignore[import-untyped]

    def local_paths(names: tuple[str, ...]) -> list[Path]:
        values = [arguments.get(name) or "" for name in names]
        return [Path(value).absolute() for value in values if value and "://" not in value]

    for folder in local_paths(WRITABLE):
        folder.mkdir(parents=True, exist_ok=True)
    mounts = [Mount(str(path), str(path), type="bind") for path in local_paths(WRITABLE)]
    mounts += [
        Mount(str(path), str(path), type="bind", read_only=True) for path in local_paths(READABLE) if path.exists()
    ]
    is_remote = any(str(value).startswith(("zenodo", "gs://")) for value in arguments.values())
    return local.DockerRunner(
        user=f"{os.getuid()}:{os.getgid()}",
        mounts=mounts,
        read_only=True,
        tmpfs={"/tmp": "size=4g"},
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        **({} if is_remote or arguments.get("server") else {"network_mode": "none"}),
    )


@contextlib.contextmanager
def engine_calls(running: RunningSteps) -> Iterator[None]:
    """Register the containers that kfp starts; raise `InputError` if the engine is unreachable or cannot start one."""
    from docker.errors import DockerException  # type: ignore[import-untyped]
    from docker.models.containers import Container, ContainerCollection  # type: ignore[import-untyped]

    run, wait = ContainerCollection.run, Container.wait

    def run_without_removal(containers: ContainerCollection, **options: Any) -> Container:
        # A container that removes itself may be gone before kfp has read its log and status.
        container = run(containers, **options | {"auto_remove": False})
        running.add(container.id, lambda: container.remove(force=True))
        return container

    def wait_and_remove(container: Container) -> dict[str, Any]:
        status = wait(container)
        running.remove(container.id)
        container.remove()
        return status

    try:
        with (
            mock.patch.object(ContainerCollection, "run", run_without_removal),
            mock.patch.object(Container, "wait", wait_and_remove),
        ):
            yield
    except DockerException as error:
        address = os.environ.get("DOCKER_HOST", "Docker's default socket")
        raise InputError(
            f"container engine at {address}: {error}; start it or set DOCKER_HOST, and run `make images`"
        ) from error


def unfinished_steps(folder: Path) -> list[str]:
    """Names of the steps in a run's folder that left no result."""
    unfinished = []
    for step in folder.iterdir():
        if step.name.startswith("for-loop-"):  # the steps of one iteration
            unfinished += unfinished_steps(step)
        elif not (step / "executor_output.json").is_file():
            unfinished.append(step.name)
    return sorted(unfinished)
