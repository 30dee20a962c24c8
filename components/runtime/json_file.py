"""JSON files that other steps or a user wrote."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from components.runtime.errors import InputError

_T = TypeVar("_T")
# What reading and parsing raise for a damaged file, also one that is nested too deeply or has a number too large.
_DAMAGES = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, InputError)


def read_json(path: Path, parse: Callable[[Any], _T], expected: str) -> _T:
    """Read a JSON file and parse its content.

    Args:
        path: the file.
        parse: builds the result; raises a built-in error for other content.
        expected: what the file should be, and what to do, for the message.

    Raises:
        InputError: missing or damaged file, or other content.
    """
    try:
        return parse(json.loads(path.read_text()))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected {expected}") from error
    except _DAMAGES as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(f"{path}: cannot be read ({reason}); expected {expected}") from error


def parse_names(value: Any) -> list[str]:
    """Return a JSON list of strings; raise `TypeError` for anything else."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError(f"{repr(value)[:40]} is no list of names")
    return value
