"""A step as small as can be, for tests of what is around steps: bytes as a matrix of one row.

python tests/byte_step.py --times 2 --scp vid.scp --output-dir jobs1/1
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vidperson import cli
from vidperson.errors import DataError
from vidperson.io.crops import tar_entry
from vidperson.io.job_store import JobStore
from vidperson.io.lines import read_paths
from vidperson.io.matrices import matrix_bytes

ARCHIVES = ("bytes.ark", "bytes_in.tar")
STATES = ("ok", "unreadable")


@dataclass(frozen=True)
class ByteOptions:
    scp: str = cli.option(help="segment and path")
    output_dir: str = cli.option(help="the job's own folder")
    times: int = cli.option(1, "factor; above 9 it is an error")
    add: str = cli.option("", "a list of segments and what to add to each of their bytes")
    slow_s: float = cli.option(0.0, "seconds per segment")
    calls: str = cli.option("", "a list that gets the name of each segment that is done")


def run(options: ByteOptions) -> None:
    if options.times > 9:
        raise DataError(f"expected at most 9 times, found {options.times}")
    added = dict(line.split() for line in Path(options.add).read_text().splitlines()) if options.add else {}
    with JobStore(options.output_dir, ARCHIVES, STATES) as store:
        for segment, path in read_paths(options.scp).items():
            if segment in store.statuses:
                continue
            time.sleep(options.slow_s)
            try:
                content, status = Path(path).read_bytes(), "ok"
            except OSError as error:
                content, status = b"", f"unreadable: {error.strerror}"
            row = options.times * np.frombuffer(content, np.uint8).astype(np.float32) + float(added.get(segment, 0))
            files = [tar_entry(f"{segment}/{n}", content[n : n + 1]) for n in range(len(content))]
            matrix = matrix_bytes(segment, row.reshape(-1, max(len(row), 1)))
            store.append(segment, status, {"bytes.ark": [matrix], "bytes_in.tar": files})
            if options.calls:
                with open(options.calls, "a", encoding="utf-8") as calls:
                    calls.write(f"{segment}\n")


if __name__ == "__main__":
    cli.run(run, ByteOptions, __doc__)
