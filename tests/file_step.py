"""A step as small as can be for tests of utils/once.py: it writes a file and says when it is there.

python tests/file_step.py --source in --output out --factor 2 [--check true] [--force true]
"""

from __future__ import annotations

import logging
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from vidperson import cli
from vidperson.io.record import damaged_outputs, differences, read_record, write_record


@dataclass(frozen=True)
class FileOptions:
    source: Path = cli.option(help="a number")
    output: Path = cli.option(help="the number times the factor")
    factor: int = cli.option(1, "0 is an error")
    check: bool = cli.option(False, "true: say what there is to do and leave with status 3, or with 0")
    force: bool = cli.option(False, "true: write it though it is there")
    slow_s: float = cli.option(0.0, "seconds that the work takes")
    warnings: int = cli.option(0, "how many warnings are logged")
    late_s: float = cli.option(0.0, "seconds after which the file is seen when the step has ended")


def run(options: FileOptions) -> None:
    output = options.output
    command = ["file_step.py", "--factor", str(options.factor)]
    if options.check:
        record = read_record(output)
        reasons = ["it is not there"] if record is None else differences(record, command, [options.source])
        reasons += damaged_outputs(output, record, thorough=False) if record is not None else []
        print(f"{output}: done already" if not reasons else "\n".join(reasons))
        sys.exit(3 if reasons else 0)
    print("forced" if options.force else "not forced")
    for number in range(options.warnings):
        logging.warning("warning %d", number + 1)
    if not options.factor:
        sys.exit("expected another factor than 0")
    (output.parent / "begun").touch()
    time.sleep(options.slow_s)
    if not options.late_s:
        write(options, command)
    elif not os.fork():  # a job elsewhere, of which the file is seen after the step has ended
        for stream in (0, 1, 2):
            os.close(stream)
        time.sleep(options.late_s)
        write(options, command)
        os._exit(0)


def write(options: FileOptions, command: list[str]) -> None:
    options.output.write_text(f"{options.factor * int(options.source.read_text())}\n")
    write_record(options.output, command, [options.source], [options.output])


if __name__ == "__main__":
    cli.run(run, FileOptions, __doc__)
