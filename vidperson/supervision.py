"""Work through segments in a child process, so that a file that crashes or hangs its decoder costs one segment."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import NamedTuple

from vidperson.errors import VidPersonError, os_error_text

# What a process brings on itself. The others come from outside, such as SIGKILL where memory runs out.
_OWN_FAULTS = {
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGABRT,
    signal.SIGSYS,
    signal.SIGTRAP,
}
_ERROR = "\n"  # in front of a message from the child; names of segments hold no line break

Work = Callable[[Callable[[str], None]], None]


class _Loss(NamedTuple):
    segment: str
    why: str
    hung: bool


def run_supervised(work: Work, give_up: Callable[[str, str], None], timeout_s: float | None) -> None:
    """Run ``work(begin)`` in a child process until it ends; where that dies or hangs, another one goes on.

    work: does what has not been done yet, and calls ``begin`` with each segment's name before it starts on it.
    give_up: called, while no child runs, with a segment that is to be passed over, and why: it was under way for more
        than ``timeout_s`` seconds (None: any time is fine), or crashed twice, the second time in a fresh process.
    Call it before other threads or engines are started: the child is a fork of this process.
    Raises VidPersonError with the message of one that ended the work, and when the child was killed from outside or
    died before its first segment.
    """
    crashed = None
    while (loss := _run_child(work, timeout_s)) is not None:
        logging.warning("%s: %s", loss.segment, loss.why)
        if loss.hung or loss.segment == crashed:
            give_up(loss.segment, loss.why)
        crashed = loss.segment


def _run_child(work: Work, timeout_s: float | None) -> _Loss | None:
    """None when the work is done, else the segment that the child was at work on, and what became of it."""
    context = get_context("fork")
    events, sender = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(work, sender, os.getpid()), daemon=True)
    child.start()
    sender.close()  # the child's end closes with the child
    segment: str | None = None
    deadline: float | None = None
    ended = False
    try:
        while not ended:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not wait([events], left):
                return _Loss(segment or "", f"not done after {timeout_s:g} s (segment_timeout_s)", hung=True)
            try:
                event = events.recv_bytes().decode()
            except EOFError:
                ended = True
                continue
            if event.startswith(_ERROR):
                raise VidPersonError(event.removeprefix(_ERROR))
            segment = event
            deadline = None if timeout_s is None else time.monotonic() + timeout_s
    finally:
        if not ended:
            child.kill()
        child.join()
        events.close()
    code = child.exitcode or 0
    if not code:
        return None
    if -code in _OWN_FAULTS and segment is not None:
        return _Loss(segment, f"the process that decodes it died of {signal.Signals(-code).name}", hung=False)
    if code > 0:
        raise VidPersonError(f"the process that does the work ended with exit code {code}; its last words are above")
    name = signal.Signals(-code).name
    place = "before its first segment" if segment is None else f"at work on '{segment}'"
    memory = ", as happens where memory runs out" if -code == signal.SIGKILL else ""
    raise VidPersonError(f"the process that does the work was ended by {name} {place}{memory}; run the stage again")


def _child(work: Work, events: Connection, parent: int) -> None:
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    try:
        work(lambda segment: events.send_bytes(segment.encode()))
    except (VidPersonError, OSError) as error:
        text = os_error_text(error) if isinstance(error, OSError) else str(error)
        with suppress(OSError):
            events.send_bytes((_ERROR + text).encode())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
