"""Processes that tests start, wait for and end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path


def default_signals() -> None:
    """In a new child: end by the signals that end programs, also where these tests run below nohup or with `&`."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def wait_for(condition: Callable[[], bool], what: str, limit_s: float = 20.0) -> None:
    """Raises AssertionError when the condition does not become true in time."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def with_text(text: str) -> list[int]:
    """Process ids of the commands of this machine, other than this process, that have a text in them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
        except OSError:  # ended meanwhile
            continue
    return found
