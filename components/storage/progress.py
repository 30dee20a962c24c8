"""Progress of a transfer: a bar on a terminal, otherwise a log line every few seconds."""

import io
import logging
import sys

from tqdm import tqdm

_LOG_INTERVAL_S = 5.0
_log = logging.getLogger(__name__)


def transfer_progress(description: str, total_bytes: int | None = None) -> tqdm:
    """Return a counter of transferred bytes; a negative `update` reverts bytes that must be fetched again."""
    if sys.stderr.isatty():  # where tqdm draws
        return tqdm(desc=description, total=total_bytes, unit="B", unit_scale=True)
    return _LoggedProgress(desc=description, total=total_bytes, mininterval=_LOG_INTERVAL_S, file=io.StringIO())


class _LoggedProgress(tqdm):
    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Log the state; tqdm calls this at most once per interval, and at the end."""
        current_mb, elapsed_s = self.n / 1e6, self.format_dict["elapsed"]
        total = f" of {self.total / 1e6:,.1f} MB ({self.n / self.total:.0%})" if self.total else " MB"
        if self.n:
            _log.info("%s: %s%s, %.1f MB/s", self.desc, f"{current_mb:,.1f}", total, current_mb / max(elapsed_s, 1e-3))
