"""Deploy in idempotent stages, from building the images to serving; and remove serving again."""

import logging
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from components.runtime.errors import InputError
from components.runtime.files import atomic_write
from components.runtime.programs import log_command, read_output, run
from pipelines.cluster.runs import package_version, upload
from pipelines.deploy.claims import prepare_claims
from pipelines.deploy.deployment import STAGES, Deployment, Stage
from pipelines.deploy.serving_manifests import SERVED_CLAIM, removable_objects, render, validate_schemas
from pipelines.parameters import PIPELINES

_log = logging.getLogger(__name__)
Execute = Callable[..., None]


def deploy(deployment: Deployment, build: Path, *, skip: Sequence[Stage] = (), dry_run: bool = False) -> None:
    """Run the stages in order; a repeated or interrupted call ends in the same state.

    Args:
        deployment: the settings.
        build: folder for pipeline packages and rendered manifests.
        skip: stages to leave out.
        dry_run: log the commands and validate packages and manifests, without changing anything.

    Raises:
        InputError: a stage fails; later stages do not run.
    """
    if deployment.revision.endswith("-dirty") and deployment.registry and "push" not in skip and not dry_run:
        # Nodes cache images by tag: changed code pushed under the same tag would silently not run.
        raise InputError(f"{deployment.revision}: files differ from the last commit; commit them or pass --revision")
    execute: Execute = log_command if dry_run else run
    stages: dict[Stage, Callable[[], None]] = {
        "build": lambda: _build(deployment, execute),
        "push": lambda: _push(deployment, execute),
        "compile": lambda: execute(*compile_command(deployment, build.absolute())),
        "upload": lambda: _preview_upload(deployment, build, skip) if dry_run else _upload(deployment, build),
        "claims": lambda: prepare_claims(deployment, build / "claims", dry_run=dry_run),
        "serving": lambda: _apply_serving(deployment, build / "serving", dry_run),
    }
    for stage in STAGES:
        _log.info("── %s%s", stage, ": skipped" if stage in skip else "")
        if stage not in skip:
            stages[stage]()


def undeploy(deployment: Deployment, build: Path, *, dry_run: bool = False) -> None:
    """Delete the servers, but not the namespace, volume claims, models and pipeline versions.

    Raises:
        InputError: kubectl fails.
    """
    objects = removable_objects(render(deployment, build / "serving"))
    path = build / "serving" / "removable.yaml"
    with atomic_write(path) as temporary:
        temporary.write_text(yaml.safe_dump_all(objects))
    execute: Execute = log_command if dry_run else run
    execute(["kubectl", "delete", "--ignore-not-found", "--wait", "-f", str(path)])
    _log.info("kept: the namespace, volume claims, pipeline versions and model versions")


def build_commands(deployment: Deployment) -> list[list[str]]:
    """Commands that build the images, each tagged for the registry and for local runs."""
    arguments = [f"--build-arg={name}={value}" for name, value in deployment.build_arguments().items()]
    return [
        [
            *(deployment.engine, "build", "-f", "images/Dockerfile", "--target", kind, *arguments),
            *("-t", deployment.image(kind), "-t", f"localhost/lung-ct-python:{kind}", "."),
        ]
        for kind in deployment.kinds
    ]


def compile_command(deployment: Deployment, build: Path) -> tuple[list[str], dict[str, str]]:
    """The command that compiles the packages, and the environment that selects their images."""
    images = {"CPU_IMAGE": deployment.image("cpu"), "DATA_IMAGE": deployment.image("data")}
    command = [sys.executable, "-m", "pipelines.cli", "compile", "-o", str(build)]
    if deployment.gpus:
        images["TRAIN_IMAGE"] = deployment.image("gpu")
        command += ["--gpus", str(deployment.gpus)]
    for option in ("model_claim", "checkpoint_claim", "data_claim", "image_pull_secret"):
        if value := getattr(deployment, option):
            command += [f"--{option.replace('_', '-')}", value]
    return command + shlex.split(deployment.compile_with), images


def _build(deployment: Deployment, execute: Execute) -> None:
    for command in build_commands(deployment):
        execute(command)


def _push(deployment: Deployment, execute: Execute) -> None:
    if not deployment.registry:
        _log.info("  no registry: the images are not pushed")
        return
    for kind in deployment.kinds:
        execute([deployment.engine, "push", deployment.image(kind)])


def _upload(deployment: Deployment, build: Path) -> None:
    cluster = deployment.cluster
    for name in PIPELINES:
        uploaded = upload(cluster, build / f"{name}.yaml")
        _log.info("  %s: version %s %s", name, uploaded.version, uploaded.outcome)


def _preview_upload(deployment: Deployment, build: Path, skip: Sequence[Stage]) -> None:
    """Log the versions that `_upload` would store: of packages compiled now, or in `build` if compile is skipped."""
    with tempfile.TemporaryDirectory() as scratch:
        if "compile" not in skip:
            build = Path(scratch)
            read_output(*compile_command(deployment, build))
        for name in PIPELINES:
            version = package_version(build / f"{name}.yaml")
            _log.info("  would upload %s to %s as version %s", name, deployment.host or "kubectl's context", version)


def _apply_serving(deployment: Deployment, folder: Path, dry_run: bool) -> None:
    served = f"{deployment.namespace}/{SERVED_CLAIM}"
    written = f"{deployment.runs_namespace}/{deployment.model_claim}"
    if deployment.overlay == "local" and deployment.model_claim and written != served:
        raise InputError(f"claim {written}: the servers read {served}; expected one claim in one namespace")
    objects = render(deployment, folder)
    command = ["kubectl", "apply", "--server-side", "--force-conflicts", "-k", str(folder)]
    if not dry_run:
        run(command)
        if deployment.overlay != "kserve":
            namespace = f"--namespace={deployment.namespace}"
            run(["kubectl", "rollout", "status", namespace, "deployment/lung-infection", "--timeout=15m"])
        return
    log_command(command)
    for item in objects:
        _log.info("    %s %s/%s", item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"])
    if errors := validate_schemas(objects):
        raise InputError("serving: " + "; ".join(errors))
