"""What segment_jobs.py and once.py have in common: options, the launcher as a child, programs run in this process."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from utils.launch import ENDS, program


def refuse(message: str) -> NoReturn:
    """Leave the process with the program's name and a message."""
    sys.exit(f"{program()}: {message}")


def parse(
    arguments: Sequence[str], defaults: Mapping[str, str], repeated: Collection[str], positions: int, usage: str | None
) -> tuple[dict[str, str], dict[str, list[str]], list[str], list[str]]:
    """Take ``[--option value ...] <position> ... -- <command> ...`` apart.

    defaults: option -> value where it is not given.
    repeated: options that may be given again and again.
    positions: number of words between the options and ``--``.
    Returns the options, those that are repeated, the words, the command. Leaves the process with a
    message for anything else, and with ``usage`` after --help.
    """
    words, options, lists = list(arguments), dict(defaults), {name: list[str]() for name in repeated}
    if words[:1] == ["--help"]:
        print(usage)
        sys.exit(0)
    while words and words[0].startswith("--") and words[0] != "--":
        option = words.pop(0)
        if option not in options and option not in lists:
            refuse(f"unknown option {option}; valid: {' '.join([*options, *lists])}")
        if not words:
            refuse(f"option {option} lacks its value")
        if option in lists:
            lists[option].append(words.pop(0))
        else:
            options[option] = words.pop(0)
    if len(words) < positions + 2 or words[positions] != "--":
        refuse(f"expected {'options' if not positions else 'options, a list, a folder'}, -- and a command\n{usage}")
    return options, lists, words[:positions], words[positions + 1 :]


def flag(option: str, value: str) -> bool:
    """``true`` or ``false``; leaves the process for anything else."""
    if value not in ("true", "false"):
        refuse(f"{option}: expected true or false, found '{value}'")
    return value == "true"


def number(option: str, value: str) -> int:
    """A whole number from 0; leaves the process for anything else."""
    if not (value.isascii() and value.isdecimal()):
        refuse(f"{option}: expected a whole number, found '{value}'")
    return int(value)


def run_child(command: Sequence[str], keep_open: Collection[int] = ()) -> int:
    """Run a command, pass on the signals that end this process, and wait for it in any case.

    keep_open: file descriptors that the command inherits.
    A signal that was ignored when this process started, as after nohup, stays ignored.
    Returns the exit status of the command, or 128 + n after signal n; 127 where there is no such
    command.
    """
    import subprocess  # the programs here answer sooner where they need none of it

    received: list[int] = []
    child: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if child is not None:
            with suppress(ProcessLookupError):
                child.send_signal(number)

    before = {number: signal.getsignal(number) for number in ENDS}
    caught = [number for number, handler in before.items() if handler != signal.SIG_IGN]
    for number in caught:
        signal.signal(number, pass_on)
    sys.stdout.flush()
    try:
        try:
            child = subprocess.Popen(command, pass_fds=keep_open)
        except OSError as error:
            print(f"{program()}: cannot start '{shlex.join(command[:1])}': {error.strerror}", file=sys.stderr)
            return 127
        if received:  # between the fork and now
            child.send_signal(received[0])
        code = child.wait()
    finally:
        for number in caught:
            signal.signal(number, before[number])
    return 128 + received[0] if received else code if code >= 0 else 128 - code


def is_program(command: Sequence[str]) -> bool:
    """Whether a command is a Python program that :func:`run_here` can run."""
    return len(command) > 1 and command[0] == "python" and os.path.isfile(command[1])


def run_here(words: Sequence[str]) -> int:
    """Run a Python program, its path and arguments, in this process: to start another takes longer than much work.

    Returns the exit status; leaves the process where there is no such program.
    """
    if not os.path.isfile(words[0]):
        refuse(f"cannot run '{words[0]}': no such file")
    import runpy
    import traceback

    own, sys.argv = sys.argv, list(words)
    code: int | str | None = 0
    try:
        runpy.run_path(words[0], run_name="__main__")
    except SystemExit as left:
        code = left.code
    except Exception:
        traceback.print_exc()
        code = 1
    finally:
        sys.argv = own
    if isinstance(code, str):
        print(code, file=sys.stderr)
        return 1
    return code or 0
