"""Child processes that end with this process, however it ends.

A child's standard input is a pipe that nobody writes to. The system closes the pipe when this process ends, also after
SIGKILL; a thread in the child then ends the child's process group.
"""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import Any

_VARIABLE = "LUNG_CT_EXIT_WITH_PARENT"


def start_child(command: Sequence[str], env: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
    """Start a process in a process group of its own; its program calls `exit_with_parent`.

    Args:
        command: the program and its arguments.
        env: environment variables, in addition to those of this process.
        options: of `subprocess.Popen`.
    """
    environment = {**os.environ, **(env or {}), _VARIABLE: "1"}
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, start_new_session=True, text=True, **options
    )


def end_child(child: subprocess.Popen[str]) -> None:
    """Send SIGTERM to a child and its descendants."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)


def exit_with_parent() -> None:
    """If `start_child` started this process, end its process group as soon as the parent ends."""
    if os.environ.pop(_VARIABLE, None):
        threading.Thread(target=_end_after_parent, name="exit-with-parent", daemon=True).start()


def _end_after_parent() -> None:
    os.read(0, 1)  # returns when the pipe closes
    os.killpg(0, signal.SIGTERM)
