#!/usr/bin/env python3
"""Join the archives of all jobs of a stage and write what belongs to the whole set.

Inputs:  the jobs' folders <jobs-dir>/1 ... <jobs-dir>/N with their journals; the list of all segments; a list of the
         files that were there in the beginning, `<path> <size> <time of change>`, empty where none count.
Outputs: in --output-dir each archive with its scp, status (one line per segment of the list), and at the very end
         .done: the number of segments, in all and per state.

On a network file system the last lines of a job that ran elsewhere may be seen some seconds late: they are waited for.

Example:
  python steps/merge_jobs.py --scp data/demo_dev_test/vid.scp --jobs-dir exp/face_det/x/demo_dev_test/jobs2 \\
      --nj 2 --archives "faces.ark quality.ark crops.tar" --media exp/face_det/x/demo_dev_test/media \\
      --output-dir exp/face_det/x/demo_dev_test
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from vidperson import cli

SHOWN = 20
POLL_S = 0.5


def merge(
    scp: str, jobs_dir: str, nj: int, archives: str, output_dir: str, media: str = "", patience_s: float = 60.0
) -> None:
    """See the top of the file.

    Raises DataError when some segment is not done, even after ``patience_s``, and MediaError when the file of one was
    gone when its turn came.
    """
    from vidperson.errors import DataError
    from vidperson.io.atomic import atomic_write
    from vidperson.io.job_store import merge_jobs
    from vidperson.io.lists import read_scp

    jobs = [Path(jobs_dir) / str(job) for job in range(1, nj + 1)]
    segments = read_scp(scp)
    listed = Path(media).read_text(encoding="utf-8").splitlines() if media else []
    known = {line.rsplit(" ", 2)[0] for line in listed}
    there = {segment for segment, path in segments.items() if path in known}
    deadline = time.monotonic() + patience_s
    while True:
        try:
            statuses = merge_jobs(jobs, output_dir, archives.split(), list(segments), there)
            break
        except DataError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(POLL_S)
    counts = Counter(status.partition(":")[0] for status in statuses.values())
    summary = f"{len(statuses)} segments: " + ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
    print(f"{output_dir}: {summary}")
    reasons = [f"  {segment} {status}" for segment, status in statuses.items() if ":" in status]
    more = [f"  and {len(reasons) - SHOWN} more, see {output_dir}/status"] if len(reasons) > SHOWN else []
    for line in reasons[:SHOWN] + more:
        print(line)
    with atomic_write(Path(output_dir) / ".done") as done:
        done.write(summary + "\n")


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--scp", required=True, help="list of all segments")
    parser.add_argument("--jobs-dir", required=True, help="folder with one folder per job")
    parser.add_argument("--nj", type=cli.whole(1), required=True, help="number of jobs")
    parser.add_argument("--archives", required=True, help="names of the archives, separated by spaces")
    parser.add_argument("--output-dir", required=True, help="folder of the set")
    parser.add_argument("--media", default="", help="files that were there in the beginning")
    parser.add_argument(
        "--patience-s", type=cli.not_negative, default=60.0, help="seconds to wait for files that are seen late"
    )
    cli.main(merge, parser.parse_args())
