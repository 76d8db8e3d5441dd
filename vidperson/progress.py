"""Progress of long work as plain lines, which the launcher turns into a bar on a terminal."""

from __future__ import annotations

import sys
import time


class Progress:
    """Print ``progress 12/50 segments, 3.1/s, 0:00:12 left`` every ``every_s`` seconds and at the end.

    The line's form is a contract with ``utils/launch.py``, which adds up the jobs' lines for its bar.
    """

    def __init__(self, total: int, unit: str, done: int = 0, every_s: float = 5.0) -> None:
        self.total, self.unit, self.every_s = total, unit, every_s
        self.done = self._first = done
        self._start = self._last = time.monotonic()
        self._print()

    def step(self, count: int = 1) -> None:
        self.done += count
        now = time.monotonic()
        if now - self._last >= self.every_s or self.done >= self.total:
            self._last = now
            self._print()

    def _print(self) -> None:
        elapsed = time.monotonic() - self._start
        rate = (self.done - self._first) / elapsed if elapsed > 0 else 0.0
        left = format_duration((self.total - self.done) / rate) if rate > 0 else "?"
        print(
            f"progress {self.done}/{self.total} {self.unit}, {rate:.3g}/s, {left} left",
            file=sys.stderr,
            flush=True,
        )


def format_duration(seconds: float) -> str:
    """``3661.2`` -> ``1:01:01``."""
    minutes, secs = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}"
