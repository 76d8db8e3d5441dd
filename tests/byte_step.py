"""A step as small as can be, for tests of what is around steps: a segment's bytes as a matrix of one row.

python tests/byte_step.py --times 2 --scp vid.scp --output-dir jobs1/1
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from vidperson import cli
from vidperson.errors import DataError
from vidperson.io.job_store import JobStore
from vidperson.io.lists import read_scp
from vidperson.io.matrices import matrix_bytes


def run(scp: str, output_dir: str, times: int, slow_s: float) -> None:
    """``times`` each byte; above 9 it is an error."""
    if times > 9:
        raise DataError(f"expected at most 9 times, found {times}")
    with JobStore(output_dir, ["bytes.ark"]) as store:
        for segment, path in read_scp(scp).items():
            if segment in store.statuses:
                continue
            time.sleep(slow_s)
            try:
                row, status = np.frombuffer(Path(path).read_bytes(), np.uint8).astype(np.float32), "ok"
            except OSError as error:
                row, status = np.zeros(0, np.float32), f"unreadable: {error.strerror}"
            matrix = times * row.reshape(-1, max(len(row), 1))
            store.append(segment, status, {"bytes.ark": [matrix_bytes(segment, matrix)]})


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--scp", required=True)
    parser.add_argument("--output-dir", required=True)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--slow-s", type=float, default=0.0)
    cli.main(run, parser.parse_args())
