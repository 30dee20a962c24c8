"""The mistakes a user can make, each told in one line: what, where, what was expected, what to do."""

import errno
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class InputError(Exception):
    """Something outside the program is wrong: a file, a folder, a parameter, a cohort."""


class VolumeError(InputError):
    """A file is no readable 3-D volume, or its header contradicts its content."""


class CohortError(InputError):
    """The cases do not fit together: unpaired, duplicate, too few, or a patient on both sides of a split."""


_MACHINE_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


def join_problems(problems: Sequence[str], shown: int = 5) -> str:
    """Join problems into one line: how many, the first few, and how many more there are."""
    if len(problems) == 1:
        return problems[0]
    more = f"; and {len(problems) - shown} more" if len(problems) > shown else ""
    return f"{len(problems)} problems: {'; '.join(problems[:shown])}{more}"


@contextmanager
def exit_on_input_error() -> Iterator[None]:
    """End the process with `error: <message>` and exit status 1, without a traceback.

    That is for an `InputError`, and for a full disk or a file that may not be read or written.
    """
    try:
        yield
    except InputError as error:
        sys.exit("error: " + " ".join(str(error).split()))
    except OSError as error:
        if error.errno not in _MACHINE_FAULTS:
            raise
        sys.exit(f"error: {error.filename or 'writing the output'}: {error.strerror}; nothing was left half-written")
