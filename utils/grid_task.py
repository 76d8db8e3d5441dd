#!/usr/bin/env python3
"""Run one task of a grid's job array; started on the node by utils/slurm.py and utils/queue.py, not manually.

Usage: utils/grid_task.py <folder>

Inputs:  <folder>/array.json (what to run, where, in which environment; vidperson's own, see utils/grid.py) and the
         task's number in the variable that the scheduler sets.
Outputs: the task's log, written to as utils/run.py does, and then <folder>/status.<task>, which appears whole or not
         at all: a JSON object with `code`, the exit code, and `reason`, text for people, and `signalled`, whether a
         signal had to do with the end, so that the scheduler may know more about it.

The command is started without a shell, with the environment, umask and working directory that the launcher had. Of the
node's own environment only what the scheduler set for the task stays. Files and folders that the command names and the
launcher saw are waited for, since a network's file system may show them late on this node. Where GPUs were asked for
and the scheduler named none in CUDA_VISIBLE_DEVICES, the task claims free ones: it holds a lock file per GPU until all
of it has ended.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

if not __package__:  # run as a program: utils is this folder, and no file of it or beside it hides Python's own modules
    HERE = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != HERE]
    sys.modules["utils"] = ModuleType("utils")
    sys.modules["utils"].__path__ = [HERE]

from utils import launch

LOCKS = Path("/tmp")  # the same for all tasks on the host, which TMPDIR is not
DEVICES = "CUDA_VISIBLE_DEVICES"
KILLS = {signal.SIGKILL, signal.SIGTERM, signal.SIGXCPU, signal.SIGUSR1, signal.SIGUSR2}  # how schedulers end tasks
GPU_PATIENCE_S = 30.0  # how long a GPU may take to become free that the scheduler takes for free already


def read_array(folder: Path, patience_s: float) -> dict[str, Any]:
    """The description of the array, which may appear late on a network's file system."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            array: dict[str, Any] = json.loads((folder / "array.json").read_text())
            return array
        except (OSError, ValueError):
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def environment(caller: dict[str, str], own: str) -> dict[str, str]:
    """The caller's environment, with the node's values of the variables whose names match ``own``."""
    kept = {name: value for name, value in caller.items() if not re.fullmatch(own, name)}
    return kept | {name: value for name, value in os.environ.items() if re.fullmatch(own, name)}


def gpus_of_host(environ: dict[str, str]) -> list[str]:
    """Numbers of the GPUs that nvidia-smi lists."""
    call = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        result = subprocess.run(call, env=environ, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in result.stdout.splitlines() if line.strip().isdecimal()]


def lock(path: Path) -> int | None:
    """Descriptor of the locked file, or None where somebody else holds it. Any user may lock it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        os.fchmod(descriptor, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def claim_gpus(count: int, environ: dict[str, str], locks: Path, patience_s: float) -> dict[str, int]:
    """Claim GPUs of this host. Returns the descriptor of the lock of each GPU; closed, or at the end, it is free.

    Raises:
        RuntimeError: there are fewer, or fewer become free within ``patience_s``
    """
    deadline = time.monotonic() + patience_s
    gpus = gpus_of_host(environ)
    if len(gpus) < count:
        raise RuntimeError(f"{count} GPUs were asked for, and nvidia-smi lists {len(gpus)} on this host")
    while True:
        claimed: dict[str, int] = {}
        for gpu in gpus:
            if len(claimed) < count and (descriptor := lock(locks / f"vidperson-gpu-{gpu}.lock")) is not None:
                claimed[gpu] = descriptor
        if len(claimed) == count:
            return claimed
        for descriptor in claimed.values():  # or two tasks could each hold half of what both need
            os.close(descriptor)
        if time.monotonic() > deadline:
            raise RuntimeError(f"{count} GPUs were asked for, of {len(gpus)} only {len(claimed)} are free on this host")
        time.sleep(0.5)


def wait_for_files(paths: list[str], patience_s: float, signals: list[int]) -> None:
    """Wait until all of them are there, or a signal has come.

    Raises:
        RuntimeError: some are not, even after ``patience_s``
    """
    deadline = time.monotonic() + patience_s
    while not signals and (missing := [path for path in paths if not os.path.exists(path)]):
        if time.monotonic() > deadline:
            names = ", ".join(missing)
            raise RuntimeError(f"on the host of the launcher, but after {patience_s:g} s not on this one: {names}")
        time.sleep(0.5)


def write_status(path: Path, status: dict[str, Any]) -> None:
    """Write a small JSON file that appears whole or not at all."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".status")
    with open(descriptor, "w") as stream:
        json.dump(status, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(name, path)


def run(array: dict[str, Any], task: int, environ: dict[str, str]) -> dict[str, Any]:
    """Run a task with its log. Returns its status, see the top of this file."""
    command, log = array["tasks"][task - 1]
    signals: list[int] = []
    process: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, _: FrameType | None) -> None:
        signals.append(number)
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGTERM)

    for number in (*launch.ENDS, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU):
        signal.signal(number, pass_on)
    os.makedirs(os.path.dirname(log) or ".", exist_ok=True)
    start, parent, libc = time.monotonic(), os.getpid(), ctypes.CDLL(None, use_errno=True)
    with open(log, "ab+", buffering=0) as stream:
        launch.write_head(stream, command, environ.get(array["job_variable"], "") + f"_{task}")
        locks: dict[str, int] = {}
        try:
            there = set(array["there"])
            wait_for_files([word for word in command if word in there], array["patience_s"], signals)
            if array["claims_gpus"] and not environ.get(DEVICES):
                locks = claim_gpus(array["claims_gpus"], environ, LOCKS, GPU_PATIENCE_S)
                environ[DEVICES] = ",".join(locks)
                stream.write(f"# {DEVICES}={environ[DEVICES]}\n".encode())
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environ,
                pass_fds=list(locks.values()),
                preexec_fn=lambda: launch.tie_to_parent(libc, parent),
            )
            if signals:  # one that came while there was no process yet
                process.terminate()
            code, reason = launch.exit_status(process.wait())
        except (OSError, RuntimeError) as error:
            code, reason = 1, ""
            if isinstance(error, OSError):
                code = launch.start_error(error)
                error = RuntimeError(f"cannot start '{command[0]}': {error.strerror}")
            stream.write(os.fsencode(f"{launch.program()}: {error}\n"))
        if signals:
            reason = f"the scheduler sent {signal.Signals(signals[0]).name}"
        launch.write_foot(stream, code, reason, round(time.monotonic() - start), array["threads"])
        os.fsync(stream.fileno())
    return {"code": code, "reason": reason, "signalled": bool(signals) or code - 128 in KILLS}


def main() -> int:
    folder = Path(sys.argv[1])
    array = read_array(folder, 60)
    task = int(os.environ[array["task_variable"]])
    status = folder / f"status.{task}"
    status.unlink(missing_ok=True)  # of a run that the scheduler has put back into the queue
    environ = environment(array["environ"], array["own_variables"])
    os.umask(array["umask"])
    try:
        os.chdir(array["directory"])
        outcome = run(array, task, environ)
    except OSError as error:
        where = error.filename or array["tasks"][task - 1][1]  # none where the log cannot be written to
        outcome = {"code": 1, "reason": f"{where}: {error.strerror}", "signalled": False}
        print(outcome["reason"], file=sys.stderr)
    write_status(status, outcome)
    return 1 if outcome["code"] in array["reserved_codes"] else int(outcome["code"])


if __name__ == "__main__":
    sys.exit(main())
