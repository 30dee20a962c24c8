"""`lung-ct`: run, compile, submit and deploy the pipelines; serve a model and segment scans with it."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from components import images
from components.runtime.child_process import exit_with_parent
from components.runtime.errors import exit_on_input_error
from components.runtime.step import configure_logging
from pipelines import PipelineName, RunnerName
from pipelines.cluster import check_command
from pipelines.cluster import commands as cluster
from pipelines.deploy import commands as deploy
from serving.commands import predict, serve, versions

_log = logging.getLogger("pipelines.cli")  # __main__ with python -m

# A subcommand imports kfp, TensorFlow or gRPC only when it runs: help and parsing stay fast.


def main(argv: Sequence[str] | None = None) -> None:
    """Run a subcommand; an input error exits with one line and status 1."""
    arguments = _parser().parse_args(argv)
    exit_with_parent()
    configure_logging()
    try:
        with exit_on_input_error():
            arguments.run(arguments)
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output, such as `head`, is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except KeyboardInterrupt as error:
        # As shells report it; local runs state the signal's number.
        sys.exit(128 + (error.args[0] if error.args else signal.SIGINT))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lung-ct", description=__doc__.partition(": ")[2].capitalize())
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run a pipeline on this machine")
    run.add_argument("parameters", nargs="*", metavar="NAME=VALUE", help="pipeline parameters")
    run.add_argument("--pipeline", choices=get_args(PipelineName), default="training", help="default: %(default)s")
    run.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs (default: %(default)s)")
    run.add_argument("--runner", choices=get_args(RunnerName), default="subprocess", help="default: %(default)s")
    run.set_defaults(run=_run)
    compiling = commands.add_parser("compile", help="write pipeline and component packages for Kubeflow")
    compiling.add_argument("-o", "--output", type=Path, default=Path("build"), help="folder (default: %(default)s)")
    cluster.add_compile_options(compiling)
    compiling.set_defaults(run=_compile)
    for module in (cluster, check_command, deploy, predict, serve, versions):
        module.add_to(commands)
    return parser


def _run(arguments: argparse.Namespace) -> None:
    from pipelines.local.runs import run_pipeline
    from pipelines.parameters import parse_parameters

    parameters = parse_parameters(arguments.pipeline, arguments.parameters)
    summary = run_pipeline(arguments.pipeline, arguments.runs, parameters, arguments.runner)
    print("\n" + _format_summary(summary))
    if summary.get("failed_scans"):
        sys.exit(1)


def _format_summary(summary: dict[str, Any]) -> str:
    rows = []
    for name, value in summary.items():
        match value:
            case float():
                value = f"{value:.3f}"
            case dict():
                steps = ", ".join(f"{step} {seconds:.0f}" for step, seconds in value.items())
                value = f"{sum(value.values()):.0f} ({steps})"
            case None | []:
                value = "none"
            case list():
                value = ("\n" + " " * 19).join(value)
        rows.append(f"{name.replace('_', ' '):<18} {value}")
    return "\n".join(rows)


def _compile(arguments: argparse.Namespace) -> None:
    from kfp import compiler

    from components.runtime.files import check_folder_writable
    from pipelines.cluster.compile_options import for_cluster
    from pipelines.parameters import PIPELINES, find_components

    options = cluster.compile_options(arguments)
    check_folder_writable(arguments.output)
    folder = arguments.output / "components"
    folder.mkdir(parents=True, exist_ok=True)
    for name, pipeline in PIPELINES.items():
        package = arguments.output / f"{name}.yaml"
        compiler.Compiler().compile(for_cluster(pipeline, options), str(package))
        print(package)
    for component_name, component in find_components().items():
        compiler.Compiler().compile(component, str(folder / f"{component_name}.yaml"))
    print(folder / "*.yaml")
    if local_images := {image for image in (images.CPU, images.DATA, images.TRAIN) if image.startswith("localhost/")}:
        _log.warning(
            "%s: on this machine only; a cluster needs images from a registry: "
            "set CPU_IMAGE, DATA_IMAGE and TRAIN_IMAGE, or use make deploy REGISTRY=…",
            ", ".join(sorted(local_images)),
        )


if __name__ == "__main__":
    main()
