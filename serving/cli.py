"""Segment scans with a served model, serve a model on this machine, and say which version is served."""

import argparse
import sys

from components.runtime.errors import exit_on_input_error
from serving.commands import predict, serve, versions


def main(arguments: list[str] | None = None) -> None:
    """Run a subcommand; a user's mistake ends in one line and exit status 1."""
    chosen = _parser().parse_args(arguments)
    try:
        with exit_on_input_error():
            chosen.run(chosen)
    except KeyboardInterrupt:
        sys.exit(130)  # 128 + SIGINT, as shells report it


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serving.cli", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for subject in (predict, serve, versions):
        subject.add_to(commands)
    return parser


if __name__ == "__main__":
    main()
