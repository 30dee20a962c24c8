"""The mistakes a user can make, each told in one line: what, where, what was expected, what to do."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(Exception):
    """Something outside the program is wrong: a file, a folder, a parameter, a cohort."""


class VolumeError(InputError):
    """A file is no readable 3-D volume, or its header contradicts its content."""


class CohortError(InputError):
    """The cases do not fit together: unpaired, duplicate, too few, or a patient on both sides of a split."""


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """End the process with `error: <message>` and exit status 1 on an `InputError`, without a traceback."""
    try:
        yield
    except InputError as error:
        sys.exit("error: " + " ".join(str(error).split()))
