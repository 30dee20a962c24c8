"""External programs: their commands are logged, their failures are `InputError`s."""

import logging
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from components.runtime.errors import InputError

ROOT = Path(__file__).parents[2]
_log = logging.getLogger(__name__)


def log_command(command: list[str], environment: Mapping[str, str] | None = None) -> None:
    """Log a command in shell syntax."""
    variables = [f"{name}={value}" for name, value in (environment or {}).items()]
    _log.info("  %s", " ".join([*variables, shlex.join(command)]))


def run(command: list[str], environment: Mapping[str, str] | None = None) -> None:
    """Log a command and run it in the repository; raise `InputError` if the program is missing or fails."""
    log_command(command, environment)
    require_program(command[0])
    result = subprocess.run(command, cwd=ROOT, env={**os.environ, **(environment or {})}, check=False)
    if result.returncode:
        raise InputError(f"{shlex.join(command)} exited with {result.returncode}; fix the cause and run again")


def read_output(
    command: list[str],
    environment: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
    stdin: str | None = None,
) -> str:
    """Run a command and return what it prints; raise `InputError` if it is missing, fails or times out."""
    require_program(command[0])
    environment = {**os.environ, **(environment or {})}
    try:
        result = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{shlex.join(command)}: no answer within {timeout_s:g} s") from error
    if result.returncode:
        lines = result.stderr.strip().splitlines()
        raise InputError(f"{shlex.join(command)}: {lines[-1] if lines else f'exited with {result.returncode}'}")
    return result.stdout


def require_program(name: str) -> None:
    """Raise `InputError` if a program is not on the PATH."""
    if shutil.which(name) is None:
        raise InputError(f"{name} is not installed; `make doctor` explains how to install it")
