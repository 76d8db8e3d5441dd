#!/usr/bin/env python3
"""Run a command so that a signal which ends it ends all that it has started; see utils/signals.sh.

Usage: utils/guard.py <command> [<argument> ...]

INT, TERM and HUP end the command, and by TERM all that it leaves behind: launchers then end their
jobs. This process ends when nothing is left, by the same signal, so that a loop around it ends, too.
A second signal does not wait. Killed outright, it takes the command along.

It may run under any Python from 3.7 on: the first stage runs before there is an environment.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PDEATHSIG, CHILD_SUBREAPER = 1, 36  # of prctl
LOOK_S = 0.05


def start(command: list[str], libc: ctypes.CDLL, mask: set[int | signal.Signals]) -> int:
    """Start the command, which dies with this process, with a signal mask. Returns its process id."""
    guard = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    libc.prctl(PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guard:
        os._exit(1)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # ignored by Python
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    try:
        os.execvpe(command[0], command, dict(os.environ, VIDPERSON_GUARD=str(guard)))
    except OSError as error:
        os.write(2, os.fsencode(f"{command[0]}: {error.strerror}\n"))
        os._exit(127)


def children() -> list[int]:
    """Processes that were started by this one, or left to it by one that it had started."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open("/proc/" + name + "/stat", "rb") as stream:
                fields = stream.read().rpartition(b")")[2].split()
        except OSError:  # ended meanwhile
            continue
        if int(fields[1]) == os.getpid():
            found.append(int(name))
    return found


def collect(process: int) -> int | None:
    """Collect what has ended. Returns the exit code of the process, -n for a death by signal n."""
    code = None
    try:
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return code
            if pid == process:
                code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    except ChildProcessError:
        return code


def end_all(ends: set[signal.Signals]) -> None:
    """End all children, and what they leave behind; each is told once."""
    told = set()
    while True:
        collect(0)
        left = children()
        if not left:
            return
        for pid in left:
            if pid not in told:
                told.add(pid)
                os.kill(pid, signal.SIGTERM)
        if signal.sigtimedwait(ends, LOOK_S) is not None:
            return


def main() -> int:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    libc = ctypes.CDLL(None)
    libc.prctl(CHILD_SUBREAPER, 1, 0, 0, 0)
    ends = {number for number in ENDS if signal.getsignal(number) != signal.SIG_IGN}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ends | {signal.SIGCHLD})
    process = start(sys.argv[1:], libc, mask)
    code = None
    while code is None:
        number = signal.sigwait(ends | {signal.SIGCHLD})
        code = collect(process) if number == signal.SIGCHLD else -number
    if code >= 0:
        return code
    end_all(ends)
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {-code})
    os.kill(os.getpid(), -code)
    return 128 - code


if __name__ == "__main__":
    sys.exit(main())
