#!/usr/bin/env python3
"""Run a command, or an array of jobs, on this machine; called as Kaldi's run.pl is.

Usage: utils/run.py [options] [JOB=1:N] <log> <command> [<argument> ...]

Example:
  utils/run.py --max-jobs-run 4 JOB=1:8 exp/log/detect.JOB.log \\
    python steps_face/detect.py --scp data/dev/split8/JOB/vid.scp

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
  --config --gpu --mem --num-threads --time -l -p -q -sync, -pe with two values, -V with none
"""

from __future__ import annotations

import ctypes
import os
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, NoReturn

IGNORED = {"--config": 1, "--gpu": 1, "--mem": 1, "--num-threads": 1, "--time": 1}
IGNORED |= {"-l": 1, "-p": 1, "-q": 1, "-sync": 1, "-pe": 2, "-V": 0}
LIMIT = ("--max-jobs-run", "-tc")
REFRESH_S = 0.5
GRACE_S = 5.0
TAIL_BYTES = 16384
PROGRESS = re.compile(rb"progress (\d+)/(\d+) (\S+), (\d[\d.e+-]*)/s")


def refuse(message: str) -> NoReturn:
    sys.exit(f"run.py: {message}\nrun.py --help shows how it is called")


@dataclass
class Job:
    """One job of the array: what to run, where it logs, and how far it is."""

    command: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    exit_code: int | None = None
    start: float = 0.0
    done: int = 0
    total: int = 0
    unit: str = ""
    rate: float = 0.0


def parse(args: list[str]) -> tuple[list[Job], int]:
    """The jobs that the command line asks for, and how many may run at once.

    Leaves the process with a message when the command line is malformed.
    """
    limit = len(os.sched_getaffinity(0))
    name, first, last = "", 1, 1
    args = list(args)
    while args:
        if args[0].startswith("-"):
            option, equals, value = args.pop(0).partition("=")
            if option == "--help":
                print(__doc__)
                sys.exit(0)
            if option not in IGNORED and option not in LIMIT:
                refuse(f"unknown option {option}; valid: {' '.join(sorted([*IGNORED, *LIMIT, '--help']))}")
            values = [value] if equals else [args.pop(0) for _ in range(IGNORED.get(option, 1)) if args]
            if len(values) < IGNORED.get(option, 1):
                refuse(f"option {option} lacks its value")
            if option in LIMIT:
                if not values[0].isdecimal() or int(values[0]) < 1:
                    refuse(f"{option} takes a number from 1, found '{values[0]}'")
                limit = int(values[0])
        elif not name and (match := re.fullmatch(r"([A-Za-z_]\w*)=(\d+)(?::(\d+))?", args[0])):
            name, first, last = match[1], int(match[2]), int(match[3] or match[2])
            if first < 1 or last < first:
                refuse(f"expected a range from 1 upwards such as {name}=1:8, found '{args[0]}'")
            args.pop(0)
        else:
            break
    if len(args) < 2:
        refuse("expected a log file and a command")
    if last > first and name not in args[0]:
        refuse(f"all jobs would write the log '{args[0]}'; put {name} into its name")
    jobs = []
    for number in range(first, last + 1):
        log, *command = [arg.replace(name, str(number)) if name else arg for arg in args]
        jobs.append(Job(command, Path(log)))
    return jobs, limit


def now() -> str:
    return time.strftime("%a %b %d %H:%M:%S %Z %Y")


def tie_to_parent(libc: ctypes.CDLL, parent: int) -> None:
    """In a new child: have the kernel kill it when this launcher dies without a chance to do so itself."""
    pr_set_pdeathsig = 1
    libc.prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def start(job: Job, libc: ctypes.CDLL) -> None:
    """Start a job in a process group of its own, with its log open for it."""
    job.start = time.monotonic()
    job.log.parent.mkdir(parents=True, exist_ok=True)
    parent = os.getpid()
    with open(job.log, "ab", buffering=0) as stream:
        head = f"# {shlex.join(job.command)}\n# Started at {now()} on {socket.gethostname()}\n#\n"
        stream.write(os.fsencode(head))
        try:
            job.process = subprocess.Popen(
                job.command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: tie_to_parent(libc, parent),
            )
        except OSError as error:
            stream.write(os.fsencode(f"run.py: cannot start '{job.command[0]}': {error.strerror}\n"))
            finish(job, 127 if isinstance(error, FileNotFoundError) else 126)


def finish(job: Job, return_code: int) -> None:
    """Note a job's outcome and close its log. return_code: as Popen gives it, -n for a death by signal n."""
    job.exit_code = return_code if return_code >= 0 else 128 - return_code
    job.process = None
    read_progress(job)
    job.rate = 0.0
    seconds = round(time.monotonic() - job.start)
    killed = f" (killed by {signal.Signals(-return_code).name})" if return_code < 0 else ""
    with open(job.log, "ab+") as stream:
        if read_tail(stream, 1) != b"\n":
            stream.write(b"\n")
        end = f"# Ended (code {job.exit_code}){killed} at {now()}, elapsed time {seconds} seconds\n"
        stream.write(f"# Accounting: time={seconds} threads=1\n{end}".encode())


def read_tail(stream: BinaryIO, size: int) -> bytes:
    stream.seek(max(0, stream.seek(0, os.SEEK_END) - size))
    return stream.read()


def read_progress(job: Job) -> None:
    """Take over the last progress line near the end of the job's log, when there is one."""
    with open(job.log, "rb") as stream:
        lines = PROGRESS.findall(read_tail(stream, TAIL_BYTES))
    if lines:
        done, total, unit, rate = lines[-1]
        job.done, job.total, job.rate = int(done), int(total), float(rate)
        job.unit = unit.decode(errors="replace")


def bar_line(jobs: list[Job], columns: int) -> str:
    """``[####....] 120/500 segments, 6.2/s, 0:01:01 left, 1/4 jobs done``, cut to the terminal's width."""
    ended = sum(job.exit_code is not None for job in jobs)
    failed = sum(job.exit_code not in (None, 0) for job in jobs)
    done, total = sum(job.done for job in jobs), sum(job.total for job in jobs)
    texts = []
    if total:
        rate = sum(job.rate for job in jobs)
        unit = next(job.unit for job in jobs if job.total)
        texts += [f"{done}/{total} {unit}", f"{rate:.3g}/s"]
        if rate > 0:
            texts.append(f"{timedelta(seconds=int((total - done) / rate))} left")
    texts.append(f"{ended}/{len(jobs)} jobs done")
    if failed:
        texts.append(f"{failed} failed")
    share = done / total if total else ended / len(jobs)
    width = 20
    return f"[{'#' * int(share * width):.<{width}}] {', '.join(texts)}"[: max(columns - 1, 1)]


def draw_bar(jobs: list[Job]) -> None:
    for job in jobs:
        if job.process is not None:
            read_progress(job)
    columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
    print(f"\r{bar_line(jobs, columns)}\x1b[K", end="", file=sys.stderr, flush=True)


def signal_group(process: subprocess.Popen[bytes], number: int) -> bool:
    """Signal a job and what it started (0 only asks); False when none of them lives any more."""
    process.poll()
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


def wake_up_pipe(ends: set[signal.Signals]) -> int:
    """A pipe end that gets a byte, the signal's number, when a child ends or one of ``ends`` arrives."""
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable)
    for number in {signal.SIGCHLD, *ends}:
        if number == signal.SIGCHLD or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    return readable


def run(jobs: list[Job], limit: int) -> int:
    """Run all jobs, at most ``limit`` at once. Returns 0, or the number of the signal that ended the run."""
    libc = ctypes.CDLL(None, use_errno=True)
    ends = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    woken = wake_up_pipe(ends)
    with_bar = sys.stderr.isatty()
    waiting, running = deque(jobs), list[Job]()
    try:
        while waiting or running:
            while waiting and len(running) < limit:
                job = waiting.popleft()
                start(job, libc)
                running += [job] if job.process is not None else []
            if with_bar:
                draw_bar(jobs)
            if running and select.select([woken], [], [], REFRESH_S if with_bar else None)[0]:
                for number in os.read(woken, 4096):
                    if number in ends:
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


def report(jobs: list[Job]) -> int:
    """Say how many jobs failed, which logs tell why, and how the first log ends. Returns the exit status."""
    failed = [job for job in jobs if job.exit_code != 0]
    if not failed:
        return 0
    logs = f"log{'s are' if len(failed) > 1 else ' is'} {' '.join(str(job.log) for job in failed)}"
    print(f"run.py: {len(failed)} / {len(jobs)} failed, {logs}", file=sys.stderr)
    with open(failed[0].log, "rb") as stream:
        lines = read_tail(stream, TAIL_BYTES).decode(errors="replace").splitlines()
    lines = [line for line in lines if not line.startswith(("progress ", "# Accounting"))]
    print(f"The end of {failed[0].log}:", *lines[-10:], sep="\n  ", file=sys.stderr)
    return 1


def main() -> int:
    jobs, limit = parse(sys.argv[1:])
    try:
        for job in jobs:  # the log of an earlier run must not pass for this one's
            if job.log.is_file():
                job.log.unlink()
        number = run(jobs, limit)
    except OSError as error:
        sys.exit(f"run.py: {error.filename}: {error.strerror}")
    if number:
        print(f"run.py: ended by {signal.Signals(number).name}, and its jobs with it", file=sys.stderr)
        return 128 + number
    return report(jobs)


if __name__ == "__main__":
    sys.exit(main())
