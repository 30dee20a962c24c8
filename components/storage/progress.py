"""Progress of a transfer: a bar on a terminal, otherwise a log line every few seconds."""

import logging
import sys
import threading
import time
from types import TracebackType

from tqdm import tqdm

_LOG_INTERVAL_S = 5.0
_log = logging.getLogger(__name__)


class Progress:
    """Count the transferred bytes, from any thread, and report them.

    Args:
        description: what is transferred, such as a file name.
        total_bytes: 0 if unknown.
    """

    def __init__(self, description: str, total_bytes: int = 0):
        self._description, self._total_bytes, self._done_bytes = description, total_bytes, 0
        self._lock = threading.Lock()
        self._started = self._last_logged = time.monotonic()
        self._is_logged = not sys.stdout.isatty()
        bar_total = total_bytes or None
        self._bar = tqdm(total=bar_total, desc=description, unit="B", unit_scale=True, disable=self._is_logged)

    def __enter__(self) -> "Progress":
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the bar; without a bar, log the final state of a successful transfer."""
        self._bar.close()
        if kind is None and self._is_logged:
            self._log_state()

    def set_total(self, total_bytes: int) -> None:
        """Set the total once it is known."""
        with self._lock:
            self._total_bytes = self._bar.total = total_bytes

    def add(self, count: int) -> None:
        """Add `count` bytes; a negative count reverts bytes that must be fetched again."""
        with self._lock:
            self._done_bytes += count
            self._bar.update(count)
            if self._is_logged and time.monotonic() - self._last_logged >= _LOG_INTERVAL_S:
                self._last_logged = time.monotonic()
                self._log_state()

    def _log_state(self) -> None:
        done_mb, total_mb = self._done_bytes / 1e6, self._total_bytes / 1e6
        total = f" of {total_mb:,.1f} MB ({done_mb / total_mb:.0%})" if self._total_bytes else " MB"
        rate_mb_s = done_mb / max(time.monotonic() - self._started, 1e-3)
        _log.info("%s: %s%s, %s MB/s", self._description, f"{done_mb:,.1f}", total, f"{rate_mb_s:,.1f}")
