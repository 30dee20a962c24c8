"""`python -m pipelines.cli`: run the training pipeline here, or compile it for the Kubeflow UI."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kfp import compiler

from components.ct.errors import InputError, told_in_one_line
from pipelines.training import training

_PIPELINES = {"training": training}
_CASTS = {"String": str, "Integer": int, "Double": float, "Float": float}


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and do what it says."""
    arguments = _parser().parse_args(argv)
    with told_in_one_line():
        try:
            arguments.do(arguments)
        except KeyboardInterrupt:
            sys.exit("interrupted; nothing was published, what was finished is in the run's folder")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipelines.cli", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("local", help="run the whole training pipeline on this machine")
    run.add_argument("parameters", nargs="*", metavar="NAME=VALUE", help=_parameter_help())
    run.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs (default: %(default)s)")
    run.set_defaults(do=_local)
    package = commands.add_parser("compile", help="write the pipeline packages for the Kubeflow UI's upload")
    package.add_argument("-o", "--output", type=Path, default=Path("build"), help="folder (default: %(default)s)")
    package.set_defaults(do=_compile)
    return parser


def _parameter_help() -> str:
    inputs = training.component_spec.inputs
    return "a parameter of the pipeline: " + ", ".join(
        name if spec.default is None else f"{name}={spec.default}" for name, spec in inputs.items()
    )


def _local(arguments: argparse.Namespace) -> None:
    # Imported here: it brings the local runner, which `compile` has no use for.
    from pipelines.local import run_training

    summary = run_training(arguments.runs, parse_parameters(arguments.parameters))
    print(_told(summary, arguments.runs))


def parse_parameters(given: Sequence[str]) -> dict[str, Any]:
    """Turn `NAME=VALUE` words into the pipeline's typed parameters; names may be in capitals.

    Raises:
        InputError: an unknown name, or a value of another type.
    """
    inputs = training.component_spec.inputs
    parameters = {}
    for word in given:
        name, separator, value = word.partition("=")
        name = name.lower()
        if not separator or name not in inputs:
            raise InputError(f"{word}: no such parameter; expected NAME=VALUE with one of {', '.join(inputs)}")
        cast = _CASTS[inputs[name].type]
        try:
            parameters[name] = cast(value)
        except ValueError:
            raise InputError(f"{name} is {value!r}; expected {cast.__name__}") from None
    return parameters


def _told(summary: dict[str, Any], runs: Path) -> str:
    """The summary as a person reads it."""
    rows = {
        "source": summary["source"],
        "test Dice": f"{summary['test_dice']:.3f}",
        "verdict": summary["verdict"],
        "version": summary["model_version_dir"] or "none: the gate refused",
        "report": summary["report"],
        "mask": summary["predicted_mask"] or "none",
        "summary": runs.absolute() / "latest" / "summary.json",
        "seconds": f"{sum(summary['seconds'].values()):.0f} ("
        + ", ".join(f"{step} {seconds:.0f}" for step, seconds in summary["seconds"].items())
        + ")",
    }
    reasons = [f"           {reason}" for reason in summary["reasons"]]
    lines = [f"{label:<9}  {value}" for label, value in rows.items()]
    lines[3:3] = reasons
    return "\n" + "\n".join(lines)


def _compile(arguments: argparse.Namespace) -> None:
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, pipeline in _PIPELINES.items():
        package = arguments.output / f"{name}.yaml"
        compiler.Compiler().compile(pipeline, str(package))
        print(package)


if __name__ == "__main__":
    main()
