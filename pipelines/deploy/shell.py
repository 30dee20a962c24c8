"""Commands of other programs, shown as they are run."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from components.runtime.errors import InputError

ROOT = Path(__file__).parents[2]


def show(command: list[str], environment: dict[str, str] | None = None) -> None:
    """Print a command as a shell would take it."""
    print("  " + " ".join([*(f"{k}={v}" for k, v in (environment or {}).items()), shlex.join(command)]), flush=True)


def run(command: list[str], environment: dict[str, str] | None = None) -> None:
    """Run a command in the repository, its output shown.

    Raises:
        InputError: the program is missing, or failed.
    """
    show(command, environment)
    found(command[0])
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **(environment or {})}, check=False)
    if done.returncode:
        raise InputError(
            f"{shlex.join(command)} ended with {done.returncode}; mend that and run the same command again"
        )


def output(command: list[str], environment: dict[str, str] | None = None, timeout_s: float | None = None) -> str:
    """What a command prints.

    Raises:
        InputError: the program is missing, or failed.
    """
    found(command[0])
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise InputError(f"{shlex.join(command)}: {said[-1] if said else 'failed'}")
    return done.stdout


def found(program: str) -> None:
    """Refuse a program that is not installed.

    Raises:
        InputError: it is not.
    """
    if shutil.which(program) is None:
        raise InputError(f"{program} is not installed; `make doctor` says how to get it")
