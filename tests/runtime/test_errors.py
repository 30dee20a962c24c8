"""Errors in one line, and the log of a step."""

import errno
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from components.runtime.errors import InputError, exit_on_input_error, join_problems
from components.runtime.step import step_process

ROOT = Path(__file__).parents[2]


def test_problems_are_joined_into_one_line_with_a_count():
    assert join_problems(["a"]) == "a"
    assert join_problems(["a", "b"]) == "2 problems: a; b"
    assert join_problems(list("abcdefg"), limit=3) == "7 problems: a; b; c; and 4 more"


@pytest.mark.parametrize("error", [InputError("a\nb"), OSError(errno.ENOSPC, "No space left on device", "/x")])
def test_input_errors_and_full_disks_exit_with_one_line_and_status_1(error):
    with pytest.raises(SystemExit) as ended, exit_on_input_error():
        raise error
    message = ended.value.code
    assert isinstance(message, str)  # printed to stderr, with exit status 1
    assert message.startswith("error: ")
    assert "\n" not in message


def test_a_bug_keeps_its_traceback():
    with pytest.raises(FileNotFoundError), exit_on_input_error():
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")


def test_a_step_logs_to_stdout_and_marks_warnings(capsys):
    with step_process():
        logging.getLogger("components.x").info("1 case")
        logging.getLogger("serving.x").warning("no GPU")
    assert capsys.readouterr().out == "1 case\nwarning: no GPU\n"


def test_a_step_runs_as_a_user_without_an_entry_and_a_home():
    as_unknown_user = ["unshare", "--user", "--map-user=23456"]
    if shutil.which("unshare") is None or subprocess.run([*as_unknown_user, "true"], capture_output=True).returncode:
        pytest.skip("this system has no user namespaces")
    code = """from components.runtime.step import step_process
with step_process():
    import components.validate.data_docs  # Altair, in Great Expectations, looks up a home folder on import
    import matplotlib.pyplot"""
    environment = {name: value for name, value in os.environ.items() if name != "HOME"}
    command = [*as_unknown_user, sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
