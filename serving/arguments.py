"""Command-line options and argument types that several subcommands share."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

_Number = TypeVar("_Number", int, float)

DEFAULT_MODEL = "lung-infection"


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the model."""
    parser.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME", help="model name (default: %(default)s)")


def add_tls(parser: argparse.ArgumentParser) -> None:
    """Add the options of a client's TLS connection."""
    add = parser.add_argument
    add("--tls", action="store_true", help="use TLS with the public certificate authorities")
    add("--ca", type=Path, metavar="PEM", help="use TLS and trust only this certificate authority")
    add("--client-certificate", type=Path, metavar="PEM", help="certificate that identifies this client")
    add("--client-key", type=Path, metavar="PEM", help="private key of the client certificate")


def _number_type(
    name: str, read: Callable[[str], _Number], low: _Number, high: _Number | None = None
) -> Callable[[str], _Number]:
    """Make an argument type that reads a number from `low` to `high`."""
    expected = f"{low} or more" if high is None else f"{low} to {high}"

    def parse(text: str) -> _Number:
        number = read(text)
        if not (low <= number and (high is None or number <= high)):
            raise argparse.ArgumentTypeError(f"{name} {text}: expected {expected}")
        return number

    parse.__name__ = name  # argparse names the type in "invalid ... value"
    return parse


port = _number_type("port", int, 0, 65_535)
version = _number_type("version", int, 0, 2**63 - 1)
count = _number_type("count", int, 1)
seconds = _number_type("seconds", float, 1e-3, 86_400.0)
milliliters = _number_type("milliliters", float, 0.0, 1e6)
