"""Work through segments in a child process, so that a file that crashes or hangs its decoder costs one segment."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from threading import Lock
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
_BEGIN, _END, _ERROR = "+", "-", "!"  # in front of what the child says: a segment's name, or a message


class Watch(NamedTuple):
    """What the work says, and what it is told.

    begin, end: to be called with a segment's name before it is started on, and when it is done and kept; by any thread.
        Segments end in the order in which they begin; several may be under way at a time.
    alone: what was under way when the process before died or hung. The work does these first, and begins with none of
        them, nor with what follows, before the one before has ended: then it is clear which is to blame.
    """

    begin: Callable[[str], None]
    end: Callable[[str], None]
    alone: Sequence[str]


UNWATCHED = Watch(lambda segment: None, lambda segment: None, ())
Work = Callable[[Watch], None]


class _Loss(NamedTuple):
    under_way: list[str]
    why: str
    hung: bool
    fresh: bool  # the process had ended no segment


def run_supervised(work: Work, give_up: Callable[[str, str], None], timeout_s: float | None) -> None:
    """Run ``work(watch)`` in a child process until it ends; where that dies or hangs, another one goes on.

    work: does what has not been done yet.
    give_up: called, while no child runs, with a segment that is to be passed over, and why: with no other segment under
        way it took more than ``timeout_s`` seconds (None: any time is fine), or it crashed for a second time, as the
        first of a fresh process. Segments that were only under way beside it are done again.
    Call it before other threads or engines are started: the child is a fork of this process.
    Raises VidPersonError with the message of one that ended the work, and when the child was killed from outside or
    died before its first segment.
    """
    alone: list[str] = []
    while (loss := _run_child(work, alone, timeout_s)) is not None:
        logging.warning("%s: %s", ", ".join(loss.under_way) or "behind the last segment", loss.why)
        if len(loss.under_way) == 1 and (loss.hung or (loss.fresh and loss.under_way == alone[:1])):
            give_up(loss.under_way[0], loss.why)
            alone = []
        else:
            alone = loss.under_way


def _run_child(work: Work, alone: list[str], timeout_s: float | None) -> _Loss | None:
    """None when the work is done, else what the child was at work on, and what became of it.

    The clock of a segment starts when it has begun and all before it have ended: until then it waits for those.
    """
    context = get_context("fork")
    events, sender = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(work, alone, sender, os.getpid()), daemon=True)
    child.start()
    sender.close()  # the child's end closes with the child
    under_way: list[str] = []
    begun = some_ended = ended = False
    deadline: float | None = None
    try:
        while not ended:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not wait([events], left):
                why = f"not done after {timeout_s:g} s (segment_timeout_s)"
                return _Loss(under_way, why, hung=True, fresh=not some_ended)
            try:
                event = events.recv_bytes().decode()
            except EOFError:
                ended = True
                continue
            kind, text = event[0], event[1:]
            if kind == _ERROR:
                raise VidPersonError(text)
            oldest = under_way[:1]
            if kind == _END:
                some_ended = True
                under_way.remove(text)
            elif text not in under_way:
                begun = True
                under_way.append(text)
            if under_way[:1] != oldest:
                deadline = time.monotonic() + timeout_s if timeout_s is not None and under_way else None
    finally:
        if not ended:
            child.kill()
        child.join()
        events.close()
    code = child.exitcode or 0
    if not code:
        return None
    if -code in _OWN_FAULTS and begun:
        why = f"the process that decodes it died of {signal.Signals(-code).name}"
        return _Loss(under_way, why, hung=False, fresh=not some_ended)
    if code > 0:
        raise VidPersonError(f"the process that does the work ended with exit code {code}; its last words are above")
    name = signal.Signals(-code).name
    place = "before its first segment"
    if begun:
        place = f"at work on {', '.join(map(repr, under_way))}" if under_way else "behind the last segment"
    memory = ", as happens where memory runs out" if -code == signal.SIGKILL else ""
    raise VidPersonError(f"the process that does the work was ended by {name} {place}{memory}; run the stage again")


def _child(work: Work, alone: list[str], events: Connection, parent: int) -> None:
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    lock = Lock()

    def say(kind: str, text: str) -> None:
        with lock:
            events.send_bytes((kind + text).encode())

    try:
        work(Watch(partial(say, _BEGIN), partial(say, _END), tuple(alone)))
    except (VidPersonError, OSError) as error:
        text = os_error_text(error) if isinstance(error, OSError) else str(error)
        with suppress(OSError):
            say(_ERROR, text)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
