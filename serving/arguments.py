"""What several subcommands read from the command line."""

import argparse
from pathlib import Path

DEFAULT_MODEL = "lung-infection"
Subcommands = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the model's name."""
    parser.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME", help="default: %(default)s")


def port(text: str) -> int:
    """Read a port."""
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{number} is no port; expected 0 to 65535")
    return number


def version(text: str) -> int:
    """Read a model version."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is no version; expected 0 or more")
    return number


def seconds(text: str) -> float:
    """Read a time to wait."""
    number = float(text)
    if not 0 < number < 86_400:
        raise argparse.ArgumentTypeError(f"{text} is no time to wait; expected more than 0 seconds")
    return number


def count(text: str) -> int:
    """Read a number of things, at least one."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is too few; expected 1 or more")
    return number


def milliliters(text: str) -> float:
    """Read a volume."""
    number = float(text)
    if not 0 <= number < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is no volume in mL; expected 0 or more")
    return number


def existing(text: str) -> Path:
    """Read the name of a file or folder that must be there."""
    path = Path(text)
    if not path.exists():
        raise argparse.ArgumentTypeError(f"{path} does not exist")
    return path
