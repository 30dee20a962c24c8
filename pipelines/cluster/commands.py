"""The subcommands `upload`, `submit` and `schedule`, and the cluster options of `compile`."""

import argparse
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from components.runtime.errors import InputError
from pipelines import PipelineName

if TYPE_CHECKING:  # these import kfp
    from pipelines.cluster.compile_options import ClusterOptions
    from pipelines.cluster.connection import Cluster
    from pipelines.cluster.runs import RunSettings


def add_to(commands: Any) -> None:
    """Add the subcommands to argparse's `commands`."""
    upload = commands.add_parser("upload", help="upload a pipeline package as a version, unless it exists")
    submit = commands.add_parser("submit", help="upload a pipeline and start a run")
    schedule = commands.add_parser("schedule", help="upload a pipeline and run it on a schedule")
    for command, run in ((upload, _upload), (submit, _submit), (schedule, _schedule)):
        command.add_argument("--pipeline", choices=get_args(PipelineName), default="training", help="default: training")
        command.add_argument("--package", type=Path, help="package from `compile` (default: build/<pipeline>.yaml)")
        command.add_argument("--host", help="Kubeflow Pipelines API address (default: in-cluster or kubectl's context)")
        command.add_argument("--namespace", help="user namespace on a multi-user Kubeflow")
        add_credentials(command)
        command.set_defaults(run=run)
    for command in (submit, schedule):
        command.add_argument("parameters", nargs="*", metavar="NAME=VALUE", help="pipeline parameters")
        command.add_argument("--parameters-file", type=Path, help="NAME=VALUE lines; # starts a comment")
        command.add_argument("--experiment", default="lung-infection", help="default: %(default)s")
        command.add_argument("--name", help="name of the run or schedule (default: pipeline and time; pipeline)")
        command.add_argument("--pipeline-root", help="artifact root, such as gs://bucket/runs")
        command.add_argument("--service-account", help="service account of the run's pods")
    submit.add_argument("--wait", action="store_true", help="follow the run; exit with 1 unless it succeeds")
    submit.add_argument("--timeout", type=float, default=86_400, metavar="SECONDS", help="default: %(default)g")
    submit.add_argument("--poll", type=float, default=10, metavar="SECONDS", help="default: %(default)g")
    schedule.add_argument("--cron", required=True, help="six fields, seconds first: '0 0 3 * * 1' is Mondays at 3")


def add_credentials(command: argparse.ArgumentParser) -> None:
    """Add the options for the login."""
    command.add_argument("--token-file", type=Path, help="bearer token (default: the pod's service account)")
    command.add_argument("--username", help="user at Kubeflow's login page (Dex), with --password-file")
    command.add_argument("--password-file", type=Path, help="the user's password")
    command.add_argument("--ca-file", type=Path, help="CA certificate of the API (PEM)")


def add_compile_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `ClusterOptions`."""
    parser.add_argument("--cpu", nargs="*", default=[], metavar="STEP=CORES", help="such as slice=16")
    parser.add_argument("--memory", nargs="*", default=[], metavar="STEP=SIZE", help="such as slice=64G")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs of the train step (default: %(default)s)")
    parser.add_argument("--gpu-type", default="nvidia.com/gpu", help="resource name (default: %(default)s)")
    parser.add_argument("--node-selector", nargs="*", default=[], metavar="LABEL=VALUE", help="nodes of the train step")
    parser.add_argument("--tolerate", nargs="*", default=[], metavar="KEY", help="taints the train step tolerates")
    parser.add_argument("--model-claim", help="volume claim for served models, mounted at /models")
    parser.add_argument("--checkpoint-claim", help="volume claim for checkpoints, mounted at /checkpoints")
    parser.add_argument("--data-claim", help="volume claim of scans, mounted at /data in the steps that read files")
    parser.add_argument("--secret", help="Secret for keys, mounted at /run/secrets/<name> in the steps that read one")
    parser.add_argument("--image-pull-secret", help="Secret for pulling the images")
    parser.add_argument(
        "--no-cache", dest="caching", action="store_false", help="ingest in every run, even if the source is unchanged"
    )


def compile_options(arguments: argparse.Namespace) -> "ClusterOptions":
    """Read the options that `add_compile_options` added.

    Raises:
        InputError: an option is not NAME=VALUE, or the number of GPUs is negative.
    """
    from pipelines.cluster.compile_options import ClusterOptions

    if arguments.gpus < 0:
        raise InputError(f"--gpus is {arguments.gpus}; expected 0 or more")
    values = {name: value for name, value in vars(arguments).items() if name in ClusterOptions.__dataclass_fields__}
    pairs = {name: _pairs(name, values[name]) for name in ("cpu", "memory", "node_selector")}
    return ClusterOptions(**values | pairs | {"tolerate": tuple(arguments.tolerate)})


def _pairs(option: str, words: Sequence[str]) -> dict[str, str]:
    pairs = dict(word.partition("=")[::2] for word in words)
    if not all(name and value for name, value in pairs.items()):
        raise InputError(f"--{option.replace('_', '-')} {' '.join(words)}: expected NAME=VALUE")
    return pairs


def connection(arguments: argparse.Namespace) -> "Cluster":
    """The connection that --host, --namespace and the options of `add_credentials` describe."""
    from pipelines.cluster.connection import Cluster

    return Cluster(
        arguments.host,
        arguments.namespace,
        token_file=arguments.token_file,
        ca_file=arguments.ca_file,
        username=arguments.username,
        password_file=arguments.password_file,
    )


def _settings(arguments: argparse.Namespace, default_name: str) -> "RunSettings":
    """Read the run's settings; parameters on the command line precede those in the file."""
    from components.check_parameters.values import check_values
    from pipelines.cluster.runs import RunSettings
    from pipelines.parameters import default_parameters, parse_parameters

    words: list[str] = []
    if arguments.parameters_file is not None:
        try:
            lines = arguments.parameters_file.read_text().splitlines()
        except OSError as error:
            raise InputError(f"{arguments.parameters_file}: cannot be read: {error.strerror}") from error
        words = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    parameters = parse_parameters(arguments.pipeline, [*words, *arguments.parameters])
    check_values({**default_parameters(arguments.pipeline), **parameters})
    return RunSettings(
        name=arguments.name or default_name,
        experiment=arguments.experiment,
        parameters=parameters,
        pipeline_root=arguments.pipeline_root,
        service_account=arguments.service_account,
    )


def _package(arguments: argparse.Namespace) -> Path:
    return arguments.package or Path("build") / f"{arguments.pipeline}.yaml"


def _upload(arguments: argparse.Namespace) -> None:
    from pipelines.cluster.runs import upload

    uploaded = upload(connection(arguments), _package(arguments))
    print(f"version {uploaded.version}: {uploaded.outcome}")


def _submit(arguments: argparse.Namespace) -> None:
    from pipelines.cluster.progress import RunEnd, follow
    from pipelines.cluster.runs import run_link, submit, upload

    cluster = connection(arguments)
    settings = _settings(arguments, default_name=f"{arguments.pipeline} {datetime.now():%Y-%m-%d %H:%M:%S}")
    run_id = submit(cluster, upload(cluster, _package(arguments)), settings)
    print(f"run {run_id}: {run_link(cluster, run_id)}", flush=True)
    if not arguments.wait:
        return
    for event in follow(cluster, run_id, timeout_s=arguments.timeout, poll_s=arguments.poll):
        if not isinstance(event, RunEnd):
            print(f"{datetime.now():%H:%M:%S}  {event.label:<32} {event.state.lower()}", flush=True)
        elif event.state != "SUCCEEDED":
            raise InputError(f"run {run_id} ended {event.state}: {event.reason or run_link(cluster, run_id)}")
    print("succeeded")


def _schedule(arguments: argparse.Namespace) -> None:
    from pipelines.cluster.runs import schedule, upload

    cluster, settings = connection(arguments), _settings(arguments, default_name=arguments.pipeline)
    created = schedule(cluster, upload(cluster, _package(arguments)), settings, arguments.cron)
    replaced = f", in place of {created.replaced} of this name" if created.replaced else ""
    print(f"schedule {created.schedule_id}: {settings.name!r} in experiment {settings.experiment!r}{replaced}")
    for experiment in created.other_experiments:
        print(f"note: a schedule {settings.name!r} in experiment {experiment!r} continues; delete it if it is outdated")
