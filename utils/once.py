#!/usr/bin/env python3
"""Run a step through a launcher, unless the step says that all it would write is there.

Usage: utils/once.py [options] -- <command> [<argument> ...]

  --cmd CMD        launcher (default: utils/run.py)
  --log LOG        log of the command; required
  --force true     run the command in any case, with --force true added (default: false)
  --patience-s S   seconds to wait for outputs that are seen late (default: 60)

The step is first called with --check true added, without the launcher. Exit status 0: all is there;
3: something is to be made, with the reasons on its output; any other: the step cannot run, and its
message tells why. Afterwards it is asked again until it says 0: an output that a job elsewhere has
written may be seen late on a network file system. The last warnings of the log are shown.

Example:
  utils/once.py --log exp/scores/x/max/log/dev.log -- python steps/score.py --trials data/dev/trials
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from types import ModuleType

if not __package__:  # run as a program: utils is this folder, whose queue.py must not hide Python's own
    HERE = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != HERE]
    sys.modules["utils"] = ModuleType("utils")
    sys.modules["utils"].__path__ = [HERE]

from utils.commands import flag, is_program, number, parse, refuse, run_child, run_here

DONE, TO_DO = 0, 3
POLL_S = 0.5
SHOWN = 3  # warnings
DEFAULTS = {"--cmd": "utils/run.py", "--log": "", "--force": "false", "--patience-s": "60"}


def main(arguments: Sequence[str]) -> int:
    """Exit status 0 when the step has made, or had made before, all that it writes."""
    options, _, _, command = parse(arguments, DEFAULTS, (), 0, __doc__)
    if not options["--log"]:
        refuse("expected --log, the log of the command")
    force = flag("--force", options["--force"])
    patience_s = number("--patience-s", options["--patience-s"])
    if not force:
        code, said = check(command)
        print(said, end="")
        if code != TO_DO:
            return code
    more = ["--force", "true"] if force else []
    code = run_child([*options["--cmd"].split(), options["--log"], *command, *more])
    if code:
        return code
    show_warnings(options["--log"])
    deadline = time.monotonic() + patience_s
    while (found := check(command))[0] == TO_DO and time.monotonic() < deadline:
        time.sleep(POLL_S)
    code, said = found
    if code == TO_DO:
        print(said, end="", file=sys.stderr)
        refuse(f"not all outputs are there {patience_s} s after the command ended; see {options['--log']}")
    return code


def show_warnings(log: str) -> None:
    """Show the last warnings of a log on stderr, and how many there are."""
    if not os.path.isfile(log):
        return  # it may be seen late, too
    with open(log, encoding="utf-8", errors="replace") as stream:
        lines = [text for line in stream if (text := line.partition(" WARNING ")[2])]
    if lines[SHOWN:]:
        print(f"{len(lines)} warnings in {log}, the last:", file=sys.stderr)
    print("".join(f"WARNING {line}" for line in lines[-SHOWN:]), end="", file=sys.stderr)


def check(command: Sequence[str]) -> tuple[int, str]:
    """Exit status of the step that is asked what there is to do, and what it said."""
    question = [*command, "--check", "true"]
    if is_program(command):
        said = io.StringIO()
        with redirect_stdout(said):
            code = run_here(question[1:])
        return code, said.getvalue()
    try:
        done = subprocess.run(question, stdout=subprocess.PIPE, text=True, errors="replace")
    except OSError as error:
        refuse(f"cannot start '{command[0]}': {error.strerror}")
    return done.returncode, done.stdout


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
