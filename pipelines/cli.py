"""`python -m pipelines.cli`: run a pipeline here, compile it for the Kubeflow UI, or send it to a cluster."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kfp import compiler

from components.runtime.errors import exit_on_input_error
from pipelines.cluster import commands as cluster_commands
from pipelines.cluster.compile_options import for_cluster
from pipelines.parameters import PIPELINES, parse_parameters


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and do what it says."""
    arguments = _parser().parse_args(argv)
    with exit_on_input_error():
        try:
            arguments.do(arguments)
        except KeyboardInterrupt:
            sys.exit("interrupted; nothing was published, what was finished is in the run's folder")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipelines.cli", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("local", help="run a whole pipeline on this machine")
    run.add_argument("parameters", nargs="*", metavar="NAME=VALUE", help="a parameter of the pipeline")
    run.add_argument("--pipeline", choices=PIPELINES, default="training", help="default: %(default)s")
    run.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs (default: %(default)s)")
    run.add_argument(
        "--runner",
        choices=("subprocess", "docker"),
        default="subprocess",
        help="default: %(default)s",
    )
    run.set_defaults(do=_local)
    package = commands.add_parser("compile", help="write the pipeline packages for the Kubeflow UI's upload")
    package.add_argument("-o", "--output", type=Path, default=Path("build"), help="folder (default: %(default)s)")
    cluster_commands.add_compile_options(package)
    package.set_defaults(do=_compile)
    cluster_commands.add_to(commands, PIPELINES, parse_parameters)
    return parser


def _local(arguments: argparse.Namespace) -> None:
    # Imported here: it brings the local runner, which `compile` has no use for.
    from pipelines.local.runs import RUNS

    parameters = parse_parameters(arguments.pipeline, arguments.parameters)
    summary = RUNS[arguments.pipeline](arguments.runs, parameters, arguments.runner)
    print("\n" + _told(summary | {"summary": arguments.runs.absolute() / "latest" / "summary.json"}))


def _told(summary: dict[str, Any]) -> str:
    """The summary as a person reads it."""
    rows = []
    for name, value in summary.items():
        match value:
            case float():
                value = f"{value:.3f}"
            case dict():
                steps = ", ".join(f"{step} {seconds:.0f}" for step, seconds in value.items())
                value = f"{sum(value.values()):.0f} ({steps})"
            case list():
                value = ("\n" + " " * 19).join(value)
            case None:
                value = "none"
        rows.append(f"{name.replace('_', ' '):<18} {value}")
    return "\n".join(rows)


def _compile(arguments: argparse.Namespace) -> None:
    options = cluster_commands.compile_options(arguments)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, pipeline in PIPELINES.items():
        package = arguments.output / f"{name}.yaml"
        compiler.Compiler().compile(for_cluster(pipeline, options), str(package))
        print(package)


if __name__ == "__main__":
    main()
