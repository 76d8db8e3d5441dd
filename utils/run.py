#!/usr/bin/env python3
"""Run a command, or an array of jobs, on this machine; called as Kaldi's run.pl is.

Usage: utils/run.py [options] [JOB=1:N] <log> <command> [<argument> ...]

Example:
  utils/run.py --max-jobs-run 4 JOB=1:8 exp/log/detect.JOB.log \\
    python steps_face/detect_faces.py --scp data/dev/split8/JOB/vid.scp

JOB may be any name; it is replaced by the number of the job wherever it stands in the log's name and in the
command. The command is run as it is given, without a shell: `|`, `;` and `$` are ordinary characters.

Each log has the command, host and time, the output, and the exit code with the seconds it took. When a job
fails the others go on; at the end stderr says how many failed and names their logs, and the exit status is 1.
On a terminal a bar adds up the `progress <done>/<total> <unit>, <rate>/s` lines that the jobs write.
Interrupted or terminated, it ends all its jobs and what they started.

Options:
  --max-jobs-run N, -tc N   at most N jobs at once (default: the number of CPU cores)
  --help                    this text
Accepted with a value and ignored, since they tell a grid what a job needs:
  --config --gpu --mem --num-threads --retries --time -l -p -q -sync, -pe with two values, -V with none
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

if not __package__:  # run as a program: utils is this folder, and no file of it or beside it hides Python's own modules
    HERE = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != HERE]
    sys.modules["utils"] = ModuleType("utils")
    sys.modules["utils"].__path__ = [HERE]

from utils import launch

IGNORED = {"--config": 1, "--gpu": 1, "--mem": 1, "--num-threads": 1, "--retries": 1, "--time": 1}
IGNORED |= {"-l": 1, "-p": 1, "-q": 1, "-sync": 1, "-pe": 2, "-V": 0}
LIMIT = {"--max-jobs-run": 1, "-tc": 1}
REFRESH_S = 0.5
GRACE_S = 5.0


class Process(Protocol):
    """What is asked of a job's process: a ``Popen``, or a task of a worker."""

    pid: int

    def poll(self) -> int | None: ...

    def wait(self) -> int: ...


@dataclass
class Job(launch.Job):
    """A job that may have a process on this machine. stream: readable when it may have ended, besides SIGCHLD."""

    process: Process | None = None
    stream: Any = None
    start: float = 0.0


def parse(args: list[str]) -> tuple[list[Job], int]:
    """The jobs that the command line asks for, and how many may run at once.

    Leaves the process with a message when the command line is malformed.
    """
    call = launch.parse(args, IGNORED | LIMIT, None, __doc__)
    limit = len(os.sched_getaffinity(0))
    for option, values in call.options:
        if option in LIMIT:
            limit = launch.whole_number(option, values[0])
    return [Job(*call.job(number)) for number in call.numbers], limit


def begin(job: Job) -> None:
    """Begin the log of a job that is to start."""
    job.start = time.monotonic()
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with open(job.log, "ab", buffering=0) as stream:
        launch.write_head(stream, job.command)


def start(job: Job) -> None:
    """Start a job in a process group of its own, with its log open for it."""
    libc, parent = ctypes.CDLL(None, use_errno=True), os.getpid()
    begin(job)
    with open(job.log, "ab", buffering=0) as stream:
        try:
            job.process = subprocess.Popen(
                job.command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: launch.tie_to_parent(libc, parent),
            )
        except OSError as error:
            stream.write(os.fsencode(f"run.py: cannot start '{job.command[0]}': {error.strerror}\n"))
            finish(job, launch.start_error(error))


def finish(job: Job, return_code: int) -> None:
    """Note a job's outcome and close its log. return_code: as Popen gives it, -n for a death by signal n."""
    job.exit_code, killed = launch.exit_status(return_code)
    job.process = None
    launch.read_progress(job)
    job.rate = 0.0
    with open(job.log, "ab+") as stream:
        launch.write_foot(stream, job.exit_code, killed, round(time.monotonic() - job.start))


def draw_bar(jobs: list[Job]) -> None:
    for job in jobs:
        if job.process is not None:
            launch.read_progress(job)
    launch.draw_bar(jobs)


def signal_group(process: Process, number: int) -> bool:
    """Signal a job and what it started (0 only asks); False when none of them lives any more."""
    if process.poll() is not None and hasattr(process, "stream"):
        return False  # it was the job of a worker, which goes on
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return False
    return True


def end_jobs(jobs: list[Job]) -> None:
    """End the running jobs and all that they started: politely, and after GRACE_S by force."""
    alive = [job.process for job in jobs if job.process is not None]
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + GRACE_S
        alive = [process for process in alive if signal_group(process, number)]
        while alive and time.monotonic() < deadline:
            time.sleep(0.02)
            alive = [process for process in alive if signal_group(process, 0)]
    for job in jobs:
        if job.process is not None:
            finish(job, job.process.wait())


@contextmanager
def woken_by(numbers: set[signal.Signals]) -> Iterator[int]:
    """:func:`utils.launch.wake_up_pipe`, and the handlers as they were before behind it."""
    before = {number: signal.getsignal(number) for number in numbers}
    stream = launch.wake_up_pipe(numbers)
    try:
        yield stream
    finally:
        os.close(signal.set_wakeup_fd(-1))
        os.close(stream)
        for number, handler in before.items():
            signal.signal(number, handler)


def run(jobs: list[Job], limit: int, start: Callable[[Job], None] = start) -> int:
    """Run all jobs, at most ``limit`` at once. Returns 0, or the number of the signal that ended the run."""
    with_bar = sys.stderr.isatty()
    waiting, running = deque(jobs), list[Job]()
    with woken_by({signal.SIGCHLD, *launch.ENDS}) as woken:
        try:
            while waiting or running:
                while waiting and len(running) < limit:
                    job = waiting.popleft()
                    start(job)
                    running += [job] if job.process is not None else []
                if with_bar:
                    draw_bar(jobs)
                streams = [job.stream for job in running if job.stream is not None]
                if running and woken in select.select([woken, *streams], [], [], REFRESH_S if with_bar else None)[0]:
                    for number in os.read(woken, 4096):
                        if number in launch.ENDS:
                            return number
                for job in running:
                    if job.process is not None and (code := job.process.poll()) is not None:
                        finish(job, code)
                running = [job for job in running if job.process is not None]
            if with_bar:
                draw_bar(jobs)
            return 0
        finally:
            end_jobs(jobs)
            if with_bar:
                print(file=sys.stderr)


def main() -> int:
    jobs, limit = parse(sys.argv[1:])
    try:
        launch.remove_logs(jobs)
        number = run(jobs, limit)
    except OSError as error:
        sys.exit(f"run.py: {error.filename}: {error.strerror}")
    return launch.ended_by(number) if number else launch.report(jobs)


if __name__ == "__main__":
    sys.exit(main())
