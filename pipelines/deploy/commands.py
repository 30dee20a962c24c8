"""The subcommands `deploy`, `undeploy` and `doctor`."""

import argparse
import sys
from pathlib import Path
from typing import Any, get_args

from pipelines.cluster.commands import add_credentials
from pipelines.deploy.deployment import NAMESPACE, STAGES, Deployment, Engine, Option, Overlay, git_revision


def add_to(commands: Any) -> None:
    """Add the subcommands to argparse's `commands`."""
    deploy = commands.add_parser("deploy", help="build, push, compile, upload and serve on a cluster")
    undeploy = commands.add_parser("undeploy", help="remove serving from the cluster and keep the models")
    doctor = commands.add_parser("doctor", help="check tools, credentials and clusters")
    for command, run in ((deploy, _deploy), (undeploy, _undeploy), (doctor, _doctor)):
        _add_settings(command)
        command.set_defaults(run=run)
    for command in (deploy, undeploy):
        command.add_argument("--build", type=Path, default=Path("build"), help="folder (default: %(default)s)")
        command.add_argument("--dry-run", action="store_true", help="print and check everything without changes")
    deploy.add_argument("--skip", nargs="*", default=[], choices=STAGES, metavar="STAGE", help=", ".join(STAGES))


def _add_settings(command: argparse.ArgumentParser) -> None:
    command.add_argument("--engine", default="docker", choices=get_args(Engine), help="default: %(default)s")
    command.add_argument("--registry", help="image registry, such as europe-docker.pkg.dev/name/lung-ct")
    command.add_argument("--revision", help="image tag (default: the git revision)")
    command.add_argument("--python-image", help="base image (default: the Dockerfile's)")
    command.add_argument("--host", help="Kubeflow Pipelines API address (default: kubectl's context)")
    command.add_argument("--kfp-namespace", help="user namespace on a multi-user Kubeflow")
    add_credentials(command)
    command.add_argument("--overlay", default="local", choices=get_args(Overlay), help="default: %(default)s")
    options = get_args(Option)
    command.add_argument("--options", nargs="*", default=[], choices=options, metavar="OPTION", help=", ".join(options))
    command.add_argument("--namespace", default=NAMESPACE, help="namespace of the servers (default: %(default)s)")
    command.add_argument("--model-base", help="folder of the model's versions, such as gs://bucket/lung-infection")
    command.add_argument("--gcp-service-account", help="Google service account that reads it (workload identity)")
    command.add_argument("--serving-digest", help="digest of the tensorflow/serving image, sha256:…")
    command.add_argument("--gpus", type=int, default=0, help="GPUs of the train step (default: %(default)s)")
    command.add_argument("--model-claim", help="volume claim for models, mounted at /models")
    command.add_argument("--checkpoint-claim", help="volume claim of the train step, mounted at /checkpoints")
    command.add_argument("--data-claim", help="volume claim with source data, mounted at /data")
    command.add_argument("--image-pull-secret", help="Secret for pulling the images")
    command.add_argument("--compile-with", default="", metavar="OPTIONS", help="more options of `lung-ct compile`")


def _deployment(arguments: argparse.Namespace) -> Deployment:
    settings = {name: value for name, value in vars(arguments).items() if name in Deployment.__dataclass_fields__}
    settings |= {"options": tuple(arguments.options), "revision": arguments.revision or git_revision()}
    return Deployment(**settings)


def _deploy(arguments: argparse.Namespace) -> None:
    from pipelines.deploy.deploy import deploy

    deploy(_deployment(arguments), arguments.build, skip=arguments.skip, dry_run=arguments.dry_run)


def _undeploy(arguments: argparse.Namespace) -> None:
    from pipelines.deploy.deploy import undeploy

    undeploy(_deployment(arguments), arguments.build, dry_run=arguments.dry_run)


def _doctor(arguments: argparse.Namespace) -> None:
    from pipelines.deploy.doctor import print_report

    sys.exit(0 if print_report(_deployment(arguments)) else 1)
