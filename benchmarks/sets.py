"""Time and memory of making, leaving alone and extending a set of very many small segments.

Inputs:  none; a list of segments and their results are made up.
Outputs: a Markdown table: what was done, seconds, and the largest memory of utils/segment_jobs.py.

The jobs cost next to nothing here: a small program writes what they would have written. What is
left is what utils/segment_jobs.py does itself: inputs, splitting, merge, journal, record.

Example:
  python benchmarks/sets.py --segments 500000 --nj 8
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from vidperson import cli

ROOT = Path(__file__).resolve().parents[1]
STEP = """
import sys
import numpy as np
from vidperson.io.job_store import JobStore
from vidperson.io.lines import read_scp
from vidperson.io.matrices import matrix_bytes
scp, folder = sys.argv[sys.argv.index("--scp") + 1], sys.argv[sys.argv.index("--output-dir") + 1]
row = np.arange(16, dtype=np.float32)[None]
with JobStore(folder, ["embed.ark"], ["ok"]) as store:
    for segment in read_scp(scp):
        if segment not in store.statuses:
            store.append(segment, "ok", {"embed.ark": [matrix_bytes(segment, row)]})
"""


@dataclass(frozen=True)
class SetsOptions:
    segments: int = cli.option(500_000, "segments of the set", convert=cli.whole(1))
    nj: int = cli.option(8, "jobs", convert=cli.whole(1))
    work_dir: str | None = cli.option(None, "folder for temporary files; default: the system's")


def sets(options: SetsOptions) -> None:
    print("| what | seconds | of these jobs | CPU seconds without jobs | MB at most |\n" + "|---" * 5 + "|", flush=True)
    with tempfile.TemporaryDirectory(dir=options.work_dir) as folder:
        work = Path(folder)
        (work / "step.py").write_text(STEP)
        for what, count in (
            ("made", options.segments),
            ("left alone", options.segments),
            ("one segment added", options.segments + 1),
        ):
            lines = (f"segment-{number:07d} /videos/{number // 100}/{number}.mp4\n" for number in range(count))
            (work / "vid.scp").write_text("".join(lines))
            seconds, cpu_s, mb = run(work, options.nj)
            jobs_s = float((work / "jobs.s").read_text())
            print(f"| {what} | {seconds:.1f} | {jobs_s:.1f} | {cpu_s:.1f} | {mb:.0f} |", flush=True)


def run(work: Path, nj: int) -> tuple[float, float, float]:
    """Seconds; seconds of CPU and the largest memory, in MB, of the program itself."""
    code = (
        "import os, resource, sys, time; sys.argv[0] = 'segment_jobs.py'; from utils import segment_jobs\n"
        "child = segment_jobs.run_child\n"
        "def timed(*args):\n"
        "    begin = time.monotonic(); code = child(*args)\n"
        "    open(os.environ['JOBS_S'], 'w').write(str(time.monotonic() - begin)); return code\n"
        "segment_jobs.run_child = timed; code = segment_jobs.main(sys.argv[1:])\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print(used.ru_utime + used.ru_stime, used.ru_maxrss, file=sys.stderr); sys.exit(code)"
    )
    (work / "jobs.s").write_text("0")
    begin = time.monotonic()
    done = subprocess.run(
        [
            sys.executable, "-c", code, "--nj", str(nj), "--archives", "embed.ark", f"{work}/vid.scp", f"{work}/set",
            "--", sys.executable, f"{work}/step.py",
        ],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "JOBS_S": f"{work}/jobs.s"}, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr)
    *_, cpu_s, kb = done.stderr.split()
    return time.monotonic() - begin, float(cpu_s), int(kb) / 1024


if __name__ == "__main__":
    cli.run(sets, SetsOptions, __doc__)
