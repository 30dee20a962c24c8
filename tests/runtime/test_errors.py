"""Errors in one line, and the log of a step."""

import errno
import logging

import pytest

from components.runtime.errors import InputError, exit_on_input_error, join_problems
from components.runtime.step import step_process


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
