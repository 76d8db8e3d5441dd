"""Work through segments in a child process, so that a file that crashes or hangs its decoder costs one segment.

:func:`run_supervised` does one piece of work in such a child. A :class:`Supervisor` keeps its child for one task after
the other: what the child has imported and opened serves the next. Work of :func:`run_supervised` within a task needs
no child of its own then.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import select
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
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
# In front of what the child says: a segment's name, a message, seconds or nothing, an exit code.
_BEGIN, _END, _ERROR, _CLOCK, _DONE = "+", "-", "!", "@", "="


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
GiveUp = Callable[[str, str], None]


class _Told(NamedTuple):
    """What a child is told of those that had the same task before. lost: the segment to give up, and why."""

    alone: list[str] = []
    lost: list[str] = []


class _Loss(NamedTuple):
    under_way: list[str]
    why: str
    hung: bool
    fresh: bool  # the process had ended no segment


class Channel:
    """One end of a connection to a process that is about to be forked; texts go both ways."""

    def __init__(self, reads: int, writes: int) -> None:
        self._reads, self._writes = reads, writes
        self.is_closed = False

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """The two ends. Each process closes the one that it does not use."""
        (reads, far_writes), (far_reads, writes) = os.pipe(), os.pipe()
        return cls(reads, writes), cls(far_reads, far_writes)

    def fileno(self) -> int:
        """What is readable when there is a text, or the other process has ended."""
        return self._reads

    def send(self, text: str) -> None:
        """Raises BrokenPipeError where the other process has ended."""
        data = text.encode()
        data = struct.pack("=I", len(data)) + data
        while data:
            data = data[os.write(self._writes, data) :]

    def has_text(self, timeout_s: float | None = 0.0) -> bool:
        """Whether there is a text, or the other process has ended; waits so long for it (seconds), None: forever."""
        poll = select.poll()
        poll.register(self._reads, select.POLLIN)
        return bool(poll.poll(None if timeout_s is None else max(0.0, 1000 * timeout_s)))

    def receive(self) -> str:
        """The next text; waits for it. Raises EOFError where the other process has ended."""
        (size,) = struct.unpack("=I", self._read(4))
        return self._read(size).decode()

    def close(self) -> None:
        """Let the other process see an end."""
        self.is_closed = True
        os.close(self._reads)
        os.close(self._writes)

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = os.read(self._reads, size - len(data))
            if not more:
                raise EOFError
            data += more
        return data


class _Child:
    """In a child: how it speaks to its supervisor, and what it was told."""

    def __init__(self, channel: Channel) -> None:
        self._channel, self._lock = channel, Lock()
        self.told = _Told()

    def say(self, kind: str, text: str) -> None:
        with self._lock:
            self._channel.send(kind + text)

    def run(self, work: Work, give_up: GiveUp, timeout_s: float | None) -> None:
        told, self.told = self.told, _Told()
        if told.lost:
            give_up(*told.lost)
        self.say(_CLOCK, "" if timeout_s is None else str(timeout_s))
        work(Watch(partial(self.say, _BEGIN), partial(self.say, _END), tuple(told.alone)))
        self.say(_CLOCK, "")


_child: _Child | None = None  # that this process is


def run_supervised(work: Work, give_up: GiveUp, timeout_s: float | None) -> None:
    """Run ``work(watch)`` in a child process until it ends; where that dies or hangs, another one goes on.

    work: does what has not been done yet.
    give_up: called, while no work is under way, with a segment that is to be passed over, and why: with no other one
        under way it took more than ``timeout_s`` seconds (None: any time is fine), or it crashed for a second time, as
        the first of a fresh process. Segments that were only under way beside it are done again.
    Call it before other threads or engines are started: the child is a fork of this process. Where this process is a
    supervised child itself, all is done here, and its supervisor starts another one where it dies or hangs.
    Raises VidPersonError with the message of one that ended the work, and when the child was killed from outside or
    died before its first segment.
    """
    if _child is not None:
        _child.run(work, give_up, timeout_s)
        return

    def task(_: str) -> int:
        run_supervised(work, give_up, timeout_s)  # in the child
        return 0

    with Supervisor(task) as supervisor:
        supervisor.run("", give_up)


class Supervisor:
    """A child process that does one task after the other, and is replaced where it dies or hangs.

    do: called in the child with the text of a task. Returns its exit code.
    Make it before other threads or engines are started: a child is a fork of this process.
    """

    def __init__(self, do: Callable[[str], int]) -> None:
        self._do = do
        self._pid = 0
        self._channel: Channel | None = None

    def run(self, task: str, give_up: GiveUp | None = None) -> int:
        """Do a task. Returns its exit code. Raises what :func:`run_supervised` raises.

        give_up: called, in this process, in place of that of :func:`run_supervised` in the child.
        """
        told = _Told()
        while not isinstance(outcome := self._attempt(task, told), int):
            logging.warning("%s: %s", ", ".join(outcome.under_way) or "behind the last segment", outcome.why)
            is_known = outcome.hung or (outcome.fresh and outcome.under_way == told.alone[:1])
            if len(outcome.under_way) > 1 or not outcome.under_way or not is_known:
                told = _Told(alone=outcome.under_way)
            elif give_up is None:
                told = _Told(lost=[outcome.under_way[0], outcome.why])
            else:
                give_up(outcome.under_way[0], outcome.why)
                told = _Told()
        return outcome

    def close(self) -> None:
        """End the child behind its last task."""
        if self._channel is not None:
            self._channel.close()
            self._reap()

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _attempt(self, task: str, told: _Told) -> int | _Loss:
        """The exit code of the task, or what the child was at work on when it died or hung.

        The clock of a segment starts when it has begun and all before it have ended: until then it waits for those.
        """
        channel = self._channel or self._fork()
        with suppress(BrokenPipeError):  # it was killed meanwhile
            channel.send(json.dumps([task, *told]))
        under_way: list[str] = []
        begun = some_ended = done = False
        timeout_s: float | None = None
        deadline: float | None = None
        try:
            while True:
                if not channel.has_text(None if deadline is None else deadline - time.monotonic()):
                    why = f"not done after {timeout_s:g} s (segment_timeout_s)"
                    return _Loss(under_way, why, hung=True, fresh=not some_ended)
                try:
                    event = channel.receive()
                except EOFError:
                    break
                kind, text = event[0], event[1:]
                if kind == _ERROR:
                    raise VidPersonError(text)
                if kind == _DONE:
                    done = True
                    return int(text)
                oldest = under_way[:1]
                if kind == _CLOCK:
                    timeout_s = float(text) if text else None
                elif kind == _END:
                    some_ended = True
                    under_way.remove(text)
                elif text not in under_way:
                    begun = True
                    under_way.append(text)
                if under_way[:1] != oldest:
                    deadline = time.monotonic() + timeout_s if timeout_s is not None and under_way else None
            return self._death(self._reap(), under_way, begun, not some_ended)
        finally:
            if not done and self._channel is not None:
                os.kill(self._pid, signal.SIGKILL)
                self._reap()

    def _death(self, status: int, under_way: list[str], begun: bool, fresh: bool) -> _Loss:
        """Raises VidPersonError unless the work is to blame."""
        code = os.waitstatus_to_exitcode(status)
        if -code in _OWN_FAULTS and begun:
            why = f"the process that decodes it died of {signal.Signals(-code).name}"
            return _Loss(under_way, why, hung=False, fresh=fresh)
        if code >= 0:
            raise VidPersonError(f"the process that does the work ended with exit code {code}; see above")
        name = signal.Signals(-code).name
        place = "before its first segment"
        if begun:
            place = f"at work on {', '.join(map(repr, under_way))}" if under_way else "behind the last segment"
        memory = ", as happens where memory runs out" if -code == signal.SIGKILL else ""
        raise VidPersonError(f"the process that does the work was ended by {name} {place}{memory}; run the stage again")

    def _fork(self) -> Channel:
        ours, theirs = Channel.pair()
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid:
            theirs.close()  # it closes with the child
            self._channel = ours
            return ours
        code = 1
        try:
            ours.close()
            code = _serve(self._do, theirs, parent)
        except BaseException:
            traceback.print_exc()
        finally:
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)  # nothing of what the parent is about to do at its end

    def _reap(self) -> int:
        """Wait for the end of the child. Returns its status, as the system gives it."""
        assert self._channel is not None
        _, status = os.waitpid(self._pid, 0)
        if not self._channel.is_closed:
            self._channel.close()
        self._channel = None
        return status


def _serve(do: Callable[[str], int], channel: Channel, parent: int) -> int:
    """The child: one task after the other, until the parent closes the channel. Returns the exit code."""
    global _child
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        return 1
    _child = _Child(channel)
    while True:
        try:
            task, *told = json.loads(channel.receive())
        except EOFError:
            return 0
        _child.told = _Told(*told)
        try:
            code = do(task)
        except (VidPersonError, OSError) as error:
            with suppress(OSError):
                _child.say(_ERROR, os_error_text(error) if isinstance(error, OSError) else str(error))
            return 1
        except KeyboardInterrupt:
            return 130
        sys.stdout.flush()
        sys.stderr.flush()
        with suppress(OSError):
            _child.say(_DONE, str(code))
