"""Errors that a user can fix. Each message is one line: the item, the problem, the expectation, the remedy."""

import errno
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class InputError(Exception):
    """An input is invalid: a file, a folder, a parameter or a cohort. Each argument is a finding, and a line."""

    def __str__(self) -> str:
        """Join the findings."""
        return "; ".join(map(str, self.args))


class VolumeError(InputError):
    """A file is not a readable 3-D volume, or its header contradicts its content."""


class CohortError(InputError):
    """The cases are inconsistent: unpaired, duplicate, too few, or a patient on both sides of a split."""


_MACHINE_FAULTS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)
}


def join_problems(problems: Sequence[str], limit: int = 5) -> str:
    """Join problems into one line with their count; only the first `limit` are spelled out."""
    if len(problems) == 1:
        return problems[0]
    more = f"; and {len(problems) - limit} more" if len(problems) > limit else ""
    return f"{len(problems)} problems: {'; '.join(problems[:limit])}{more}"


def format_beside(value: float, *limits: float) -> str:
    """Format a number with four significant digits, or as many as show its difference from the limits."""
    texts = [f"{value:.{digits}g}" for digits in range(4, 18)]
    return next((text for text in texts if not {float(text)} & {*limits} - {value}), texts[-1])


@contextmanager
def exit_on_input_error() -> Iterator[None]:
    """Exit with status 1 and `error: <finding>` lines, without a traceback, on an input error or a machine fault.

    Machine faults are a full disk, missing file permissions, and names that are too long.
    """
    try:
        yield
    except InputError as error:
        sys.exit("\n".join("error: " + " ".join(str(finding).split()) for finding in error.args))
    except OSError as error:
        if error.errno not in _MACHINE_FAULTS:
            raise
        sys.exit(f"error: {error.filename or 'output'}: {error.strerror}; partial files were removed")
