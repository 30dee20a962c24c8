"""`submit`, `upload` and `schedule`: the subcommands that speak to a cluster, and what `compile` takes for one."""

import argparse
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from components.runtime.errors import InputError
from pipelines.cluster.compile_options import ClusterOptions
from pipelines.cluster.connection import Cluster
from pipelines.cluster.runs import Ended, follow, run_link, schedule, submit, upload

Parse = Callable[[str, Sequence[str]], dict[str, Any]]


def add_to(commands: Any, pipelines: Collection[str], parse: Parse) -> None:
    """Add the subcommands.

    Args:
        commands: argparse's subcommands.
        pipelines: names of the pipelines to choose from, the usual one first.
        parse: turns a pipeline's NAME=VALUE words into typed parameters.
    """
    helps = {
        "upload": "store the package as a pipeline version; nothing where it is there",
        "submit": "upload, and start a run",
        "schedule": "upload, and run again and again",
    }
    for name, do in {"upload": _upload, "submit": _submit, "schedule": _schedule}.items():
        command = commands.add_parser(name, help=helps[name])
        command.add_argument(
            "--pipeline", choices=pipelines, default=next(iter(pipelines)), help="default: %(default)s"
        )
        _add_cluster(command)
        command.set_defaults(do=do, parse=parse)
        if name != "upload":
            command.add_argument("parameters", nargs="*", metavar="NAME=VALUE", help="a parameter of the pipeline")
            command.add_argument(
                "--parameters-file", type=Path, help="file of such words, a line each; # begins a note"
            )
            command.add_argument("--experiment", default="lung-infection", help="default: %(default)s")
            command.add_argument("--name", help="of the run or the schedule (default: by the time; the pipeline)")
            command.add_argument("--pipeline-root", help="where artifacts go, such as gs://bucket/runs")
            command.add_argument("--service-account", help="account of the run's pods")
        if name == "submit":
            command.add_argument("--wait", action="store_true", help="follow the run to its end")
            command.add_argument(
                "--timeout", type=float, default=86_400, metavar="SECONDS", help="default: %(default)g"
            )
            command.add_argument("--poll", type=float, default=10, metavar="SECONDS", help="default: %(default)g")
        if name == "schedule":
            command.add_argument("--cron", required=True, help="six fields, seconds first: '0 0 3 * * 1', Mondays at 3")


def add_compile_options(parser: argparse.ArgumentParser) -> None:
    """Add what `compile` takes for a cluster; `compile_options` reads it."""
    parser.add_argument("--cpu", nargs="*", default=[], metavar="STEP=CORES", help="such as slice=16")
    parser.add_argument("--memory", nargs="*", default=[], metavar="STEP=SIZE", help="such as slice=64G")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs for the train step (default: %(default)s)")
    parser.add_argument("--gpu-type", default="nvidia.com/gpu", help="the resource they are (default: %(default)s)")
    parser.add_argument("--node-selector", nargs="*", default=[], metavar="LABEL=VALUE", help="the train step's nodes")
    parser.add_argument("--tolerate", nargs="*", default=[], metavar="KEY", help="taints that it tolerates")
    parser.add_argument("--model-claim", help="volume claim for served models, mounted as /models")
    parser.add_argument("--checkpoint-claim", help="volume claim for the train step, mounted as /checkpoints")
    parser.add_argument(
        "--secret", help="Secret with keys, mounted for identify, ingest and export under /run/secrets/<its name>"
    )
    parser.add_argument("--image-pull-secret", help="Secret to fetch the images with")
    parser.add_argument("--no-cache", action="store_true", help="ingest anew in each run, even an unchanged source")


def compile_options(arguments: argparse.Namespace) -> ClusterOptions:
    """Read what `add_compile_options` added.

    Raises:
        InputError: a word is no NAME=VALUE, or a number of GPUs is negative.
    """
    if arguments.gpus < 0:
        raise InputError(f"--gpus is {arguments.gpus}; expected 0 or more")
    return ClusterOptions(
        cpu=_pairs("--cpu", arguments.cpu),
        memory=_pairs("--memory", arguments.memory),
        gpus=arguments.gpus,
        gpu_type=arguments.gpu_type,
        node_selector=_pairs("--node-selector", arguments.node_selector),
        tolerate=tuple(arguments.tolerate),
        model_claim=arguments.model_claim,
        checkpoint_claim=arguments.checkpoint_claim,
        secret=arguments.secret,
        image_pull_secret=arguments.image_pull_secret,
        caching=not arguments.no_cache,
    )


def _pairs(option: str, words: Sequence[str]) -> dict[str, str]:
    pairs = dict(word.partition("=")[::2] for word in words)
    if not all(name and value for name, value in pairs.items()):
        raise InputError(f"{option} {' '.join(words)}: expected words such as NAME=VALUE")
    return pairs


def _add_cluster(command: argparse.ArgumentParser) -> None:
    command.add_argument("--package", type=Path, help="default: build/<pipeline>.yaml, as compile writes it")
    command.add_argument("--host", help="address of the Kubeflow Pipelines API (default: this pod's or kubectl's)")
    command.add_argument("--namespace", default="", help="yours, where Kubeflow has several users")
    command.add_argument("--token-file", type=Path, help="file with a bearer token (default: the pod's own, or none)")
    command.add_argument("--ca-file", type=Path, help="PEM of the authority that signed the API's certificate")


def _cluster(arguments: argparse.Namespace) -> Cluster:
    return Cluster(arguments.host, arguments.namespace, arguments.token_file, arguments.ca_file)


def _parameters(arguments: argparse.Namespace) -> dict[str, Any]:
    """The file's words, and over them those of the command line."""
    words: list[str] = []
    if arguments.parameters_file is not None:
        try:
            lines = arguments.parameters_file.read_text().splitlines()
        except OSError as error:
            raise InputError(f"{arguments.parameters_file}: cannot be read: {error.strerror}") from error
        words = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    return arguments.parse(arguments.pipeline, [*words, *arguments.parameters])


def _package(arguments: argparse.Namespace) -> Path:
    return arguments.package or Path("build") / f"{arguments.pipeline}.yaml"


def _upload(arguments: argparse.Namespace) -> None:
    uploaded = upload(_cluster(arguments), _package(arguments))
    print(f"version {uploaded.version} {'uploaded' if uploaded.is_new else 'was there already'}")


def _submit(arguments: argparse.Namespace) -> None:
    cluster, parameters = _cluster(arguments), _parameters(arguments)
    run_id = submit(
        cluster,
        upload(cluster, _package(arguments)),
        parameters,
        experiment=arguments.experiment,
        name=arguments.name or f"{arguments.pipeline} {datetime.now():%Y-%m-%d %H:%M:%S}",
        pipeline_root=arguments.pipeline_root,
        service_account=arguments.service_account,
    )
    print(f"run {run_id}: {run_link(cluster, run_id)}", flush=True)
    if not arguments.wait:
        return
    for seen in follow(cluster, run_id, arguments.timeout, arguments.poll):
        if not isinstance(seen, Ended):
            print(f"{datetime.now():%H:%M:%S}  {seen[0]:<28} {seen[1].lower()}", flush=True)
        elif seen.state != "SUCCEEDED":
            raise InputError(f"run {run_id} ended {seen.state}: {seen.reason or run_link(cluster, run_id)}")
    print("succeeded")


def _schedule(arguments: argparse.Namespace) -> None:
    cluster, parameters = _cluster(arguments), _parameters(arguments)
    made = schedule(
        cluster,
        upload(cluster, _package(arguments)),
        parameters,
        experiment=arguments.experiment,
        name=arguments.name or arguments.pipeline,
        cron=arguments.cron,
        pipeline_root=arguments.pipeline_root,
        service_account=arguments.service_account,
    )
    print(f"schedule {made}: {arguments.cron}")
