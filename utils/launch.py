"""What the launchers run.py, slurm.py and queue.py have in common.

Kaldi's calling convention, the head and foot of a log, the progress that jobs write into their logs, the signals that
end a launcher, and what it says about jobs that failed.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn

if TYPE_CHECKING:
    import ctypes

ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
TAIL_BYTES = 16384
PROGRESS = re.compile(rb"progress (\d+)/(\d+) (\S+), (\d[\d.e+-]*)/s")


def program() -> str:
    """The launcher's name, as it stands at the start of its messages."""
    return Path(sys.argv[0]).name


def refuse(message: str) -> NoReturn:
    sys.exit(f"{program()}: {message}\n{program()} --help shows how it is called")


@dataclass
class Job:
    """One job of the array: what to run, where it logs, how far it is, and how it ended."""

    number: int
    command: list[str]
    log: Path
    exit_code: int | None = None
    reason: str = ""
    done: int = 0
    total: int = 0
    unit: str = ""
    rate: float = 0.0


@dataclass
class Call:
    """A command line taken apart: ``[options] [JOB=1:N] <log> <command> [<argument> ...]``.

    Attributes:
        options: each option as it was given, with its values
        name: name of the array, empty where there is none
        numbers: numbers of the jobs
        log: log, with the array's name in it
        command: command and arguments, likewise
    """

    options: list[tuple[str, list[str]]]
    name: str
    numbers: range
    log: str
    command: list[str]

    def job(self, number: int) -> tuple[int, list[str], Path]:
        """Number, command and log of one job."""
        log, *command = [arg.replace(self.name, str(number)) if self.name else arg for arg in (self.log, *self.command)]
        return number, command, Path(log)


def parse(args: Sequence[str], arity: Mapping[str, int], other: int | None, help_text: str | None) -> Call:
    """Take a command line apart.

    Leaves the process with a message when it is malformed, and with the help when that was asked for.

    Args:
        args: the command line without the program
        arity: number of values of each option that is known
        other: number of values of any other option; None: there are no others
        help_text: what --help prints
    """
    args = list(args)
    options = []
    name, first, last = "", 1, 1
    while args:
        if args[0].startswith("-"):
            option, equals, value = args.pop(0).partition("=")
            if option == "--help":
                print(help_text)
                sys.exit(0)
            count = arity.get(option, other)
            if count is None:
                refuse(f"unknown option {option}; valid: {' '.join(sorted([*arity, '--help']))}")
            values = [value] if equals else [args.pop(0) for _ in range(count) if args]
            if len(values) < count:
                refuse(f"option {option} lacks its value")
            options.append((option, values))
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
    return Call(options, name, range(first, last + 1), args[0], args[1:])


def whole_number(option: str, value: str, least: int = 1) -> int:
    """The value of an option that takes a number from ``least``; leaves the process where it is not one."""
    if not (value.isascii() and value.isdecimal()) or int(value) < least:
        refuse(f"{option} takes a number from {least}, found '{value}'")
    return int(value)


def now() -> str:
    return time.strftime("%a %b %d %H:%M:%S %Z %Y")


def write_head(stream: BinaryIO, command: list[str], job_id: str = "") -> None:
    """Begin a log: the command, time, host, and on a grid the job's id."""
    as_id = f" as {job_id}" if job_id else ""
    head = f"# {shlex.join(command)}\n# Started at {now()} on {os.uname().nodename}{as_id}\n#\n"
    stream.write(os.fsencode(head))


def write_foot(stream: BinaryIO, code: int, reason: str, seconds: int, threads: int = 1) -> None:
    """End a log, a file open for reading and appending: exit code, why where it is known, time."""
    if read_tail(stream, 1) not in (b"\n", b""):
        stream.write(b"\n")
    why = f" ({reason})" if reason else ""
    end = f"# Ended (code {code}){why} at {now()}, elapsed time {seconds} seconds\n"
    stream.write(os.fsencode(f"# Accounting: time={seconds} threads={threads}\n{end}"))


def exit_status(return_code: int) -> tuple[int, str]:
    """Exit code as a shell gives it, and the signal that killed the process, from what Popen returns."""
    if return_code >= 0:
        return return_code, ""
    return 128 - return_code, f"killed by {signal.Signals(-return_code).name}"


def start_error(error: OSError) -> int:
    """Exit code as a shell gives it for a command that could not be started."""
    return 127 if isinstance(error, FileNotFoundError) else 126


def tie_to_parent(libc: ctypes.CDLL, parent: int) -> None:
    """In a new child: have the kernel kill it when its parent dies without a chance to do so itself."""
    pr_set_pdeathsig = 1
    libc.prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


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


def bar_line(jobs: Sequence[Job], columns: int) -> str:
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
            from datetime import timedelta

            texts.append(f"{timedelta(seconds=int((total - done) / rate))} left")
    texts.append(f"{ended}/{len(jobs)} jobs done")
    if failed:
        texts.append(f"{failed} failed")
    share = done / total if total else ended / len(jobs)
    width = 20
    return f"[{'#' * int(share * width):.<{width}}] {', '.join(texts)}"[: max(columns - 1, 1)]


def draw_bar(jobs: Sequence[Job]) -> None:
    columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
    print(f"\r{bar_line(jobs, columns)}\x1b[K", end="", file=sys.stderr, flush=True)


def wake_up_pipe(numbers: Iterable[signal.Signals]) -> int:
    """A pipe end that gets a byte, the signal's number, when one of ``numbers`` arrives.

    A signal that was ignored when the launcher started (as after nohup) stays ignored.
    """
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable)
    for number in numbers:
        if number == signal.SIGCHLD or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    return readable


def remove_logs(jobs: Sequence[Job]) -> None:
    """Remove the logs of an earlier run, which must not pass for this one's."""
    for job in jobs:
        if job.log.is_file():
            job.log.unlink()


def report(jobs: Sequence[Job], launcher: str = "") -> int:
    """Say how many jobs failed, which logs tell why, and how the first log ends. Returns the exit status.

    launcher: its name, where this program is another one.
    A step's own last word may stand further up: torchrun has much to say behind it.
    """
    failed = [job for job in jobs if job.exit_code != 0]
    if not failed:
        return 0
    logs = f"log{'s are' if len(failed) > 1 else ' is'} {' '.join(str(job.log) for job in failed)}"
    print(f"{launcher or program()}: {len(failed)} / {len(jobs)} failed, {logs}", file=sys.stderr)
    for job in failed:
        if job.reason:
            print(f"  {job.log}: {job.reason}", file=sys.stderr)
    try:
        with open(failed[0].log, "rb") as stream:
            lines = read_tail(stream, TAIL_BYTES).decode(errors="replace").splitlines()
    except OSError as error:
        print(f"{failed[0].log}: {error.strerror}", file=sys.stderr)
        return 1
    lines = [line for line in lines if not line.startswith(("progress ", "# Accounting"))]
    errors = list(dict.fromkeys(line for line in lines[:-10] if line.startswith("ERROR: ")))
    print(f"The end of {failed[0].log}:", *errors, *lines[-10:], sep="\n  ", file=sys.stderr)
    return 1


def ended_by(number: int, launcher: str = "") -> int:
    """Say which signal ended the launcher. Returns the exit status."""
    print(f"{launcher or program()}: ended by {signal.Signals(number).name}, and its jobs with it", file=sys.stderr)
    return 128 + number
