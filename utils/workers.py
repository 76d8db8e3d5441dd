"""Jobs that are Python programs, run in forks of this process: what one has imported and opened serves the next.

A worker is a process with a session of its own. It runs one job after the other in a child, which it replaces where it
dies or hangs (``vidperson/supervision.py``). Only processes without threads may fork: nothing here starts an engine.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from utils import launch
from utils.commands import run_here
from vidperson.cli import LOG_FORMAT
from vidperson.errors import VidPersonError
from vidperson.supervision import Channel, Supervisor


class Task:
    """A job that a worker has been given; in place of a ``Popen``."""

    def __init__(self, worker: _Worker) -> None:
        self._worker = worker
        self.pid, self.stream = worker.pid, worker.channel
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, -n where the worker died by signal n; None: not yet."""
        if self.returncode is None and self.stream.has_text():
            self.wait()
        return self.returncode

    def wait(self) -> int:
        """The exit code when there is one."""
        if self.returncode is None:
            try:
                self.returncode = int(self.stream.receive())
                self._worker.is_idle = True
            except EOFError:
                self.returncode = self._worker.reap()
        return self.returncode


class _Worker:
    def __init__(self, pid: int, channel: Channel) -> None:
        self.pid, self.channel, self.is_idle = pid, channel, False

    def reap(self) -> int:
        """Wait for its end. Returns the exit code, or -n after signal n."""
        self.channel.close()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class Workers:
    """At most as many as there are jobs at once; they end with the ``with`` block.

    Signals are handled in a worker as they were when this was made.
    """

    def __init__(self) -> None:
        self._signals = {number: signal.getsignal(number) for number in (signal.SIGCHLD, *launch.ENDS)}
        self._all: list[_Worker] = []

    def start(self, command: Sequence[str], log: Path) -> Task:
        """Give a command to an idle worker, or to a new one. The log is there already."""
        self._all = [worker for worker in self._all if not worker.channel.is_closed]
        worker = next((worker for worker in self._all if worker.is_idle), None) or self._fork()
        worker.is_idle = False
        with suppress(BrokenPipeError):  # it was killed meanwhile: its task says so
            worker.channel.send(json.dumps([str(log), *command[1:]]))
        return Task(worker)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exc: object) -> None:
        for worker in self._all:
            if not worker.channel.is_closed:
                worker.reap()

    def _fork(self) -> _Worker:
        ours, theirs = Channel.pair()
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        pid = os.fork()
        if pid:
            theirs.close()
            self._all.append(_Worker(pid, ours))
            return self._all[-1]
        code = 1
        try:
            for channel in (ours, *(worker.channel for worker in self._all)):
                channel.close()  # or its worker would not see its end
            code = _work(theirs, parent, self._signals)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)  # nothing of what the parent is about to do at its end


def _work(channel: Channel, parent: int, signals: Mapping[signal.Signals, Any]) -> int:
    """A worker: one job after the other, until the parent closes the channel. Returns the exit code."""
    os.setsid()
    launch.tie_to_parent(ctypes.CDLL(None, use_errno=True), parent)
    signal.set_wakeup_fd(-1)
    for number, handler in signals.items():
        signal.signal(number, handler)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=LOG_FORMAT)
    with Supervisor(_run_job) as supervisor:
        while True:
            try:
                job = channel.receive()
            except EOFError:
                return 0
            _log_to(json.loads(job)[0])
            try:
                code = supervisor.run(job)
            except VidPersonError as error:
                print(f"ERROR: {error}", file=sys.stderr, flush=True)
                code = 1
            with suppress(BrokenPipeError):
                channel.send(str(code))


def _run_job(job: str) -> int:
    """In the child of a worker. Returns the exit code."""
    log, *words = json.loads(job)
    _log_to(log)
    return run_here(words)


def _log_to(log: str) -> None:
    with open(log, "ab", buffering=0) as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
