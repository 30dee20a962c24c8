"""How far a transfer has come: a bar on a terminal, a line every few seconds in a log."""

import sys
import threading
import time
from types import TracebackType

from tqdm import tqdm

LINE_EVERY_S = 5.0


class Progress:
    """Counts the bytes of a transfer, from any thread, and shows them.

    Args:
        what: what is transferred, such as a file's name, for the lines.
        total_bytes: 0 where it is not known.
        line_every_s: where stdout is no terminal, the least time between two lines.
    """

    def __init__(self, what: str, total_bytes: int, line_every_s: float = LINE_EVERY_S):
        self._what, self._total_bytes, self._line_every_s = what, total_bytes, line_every_s
        self._lock = threading.Lock()
        self._done_bytes = 0
        self._started = self._last_line = time.monotonic()
        terminal = sys.stdout.isatty()
        self._bar = tqdm(total=total_bytes or None, desc=what, unit="B", unit_scale=True) if terminal else None

    def __enter__(self) -> "Progress":
        """Begin to count."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Show the last state, unless the transfer failed."""
        if self._bar is not None:
            self._bar.close()
        elif kind is None:
            self._print_line()

    def expect(self, total_bytes: int) -> None:
        """Set the total, once it is known."""
        with self._lock:
            self._total_bytes = total_bytes
            if self._bar is not None:
                self._bar.total = total_bytes

    def add(self, count: int) -> None:
        """Count `count` more bytes; a negative number takes back what has to be fetched anew."""
        with self._lock:
            self._done_bytes += count
            if self._bar is not None:
                self._bar.update(count)
            elif time.monotonic() - self._last_line >= self._line_every_s:
                self._last_line = time.monotonic()
                self._print_line()

    def _print_line(self) -> None:
        done_mb = self._done_bytes / 1e6
        of_total = " MB"
        if self._total_bytes:
            of_total = f" of {self._total_bytes / 1e6:,.1f} MB ({self._done_bytes / self._total_bytes:.0%})"
        rate = done_mb / max(time.monotonic() - self._started, 1e-3)
        print(f"{self._what}: {done_mb:,.1f}{of_total}, {rate:,.1f} MB/s", flush=True)
