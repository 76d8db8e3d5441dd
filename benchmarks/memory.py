"""Peak memory of stage 2 for a short and a long video, each in a process of its own.

Inputs:  a clip with faces (made into 720p videos, see benchmarks/make_video.py) and an installed face detector.
Outputs: a Markdown table of peak resident memory; exit status 1 when the long video needs over --limit-mb more.

Example:
  python benchmarks/memory.py --clip talk.mp4 --detector exp/face_models/retinaface_mnet025_pytorch
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vidperson import cli

STEP = "steps_face/detect_faces.py"


def compare(
    clip: str,
    detector: str,
    minutes: list[int],
    fps: float = 1.0,
    limit_mb: float = 50.0,
    work_dir: str | None = None,
) -> None:
    """Print the table and leave with the outcome."""
    print(
        "| minutes of 720p video | faces | peak memory, MB | CPU s | wall s |\n|---|---|---|---|---|",
        flush=True,
    )
    peaks = []
    for length in minutes:
        with tempfile.TemporaryDirectory(dir=work_dir) as folder:
            peak_mb, cpu_s, wall_s, faces = measure(clip, length, detector, fps, Path(folder))
        print(f"| {length} | {faces} | {peak_mb:.1f} | {cpu_s:.1f} | {wall_s:.1f} |", flush=True)
        peaks.append(peak_mb)
    more_mb = max(peaks) - peaks[0]
    print(f"\nThe longer video needs {more_mb:.1f} MB more (limit {limit_mb:.0f} MB).")
    if more_mb > limit_mb:
        sys.exit(1)


def measure(clip: str, minutes: int, detector: str, fps: float, folder: Path) -> tuple[float, float, float, int]:
    """(peak resident memory in MB of 10^6 bytes, CPU seconds, wall seconds, faces kept) of one run of the step.

    The system counts the memory of the parent at the start of a child as the child's, so this process stays small: the
    video is made by another one.
    """
    video, scp, log = folder / "video.mp4", folder / "vid.scp", folder / "log"
    maker = ["benchmarks/make_video.py", "--clip", clip, "--minutes", str(minutes), "--mbit-per-s", "0.5"]
    subprocess.run([sys.executable, *maker, "--output", str(video)], check=True)
    scp.write_text(f"video {video}\n")
    step = [
        STEP,
        "--scp",
        str(scp),
        "--model",
        detector,
        "--output-dir",
        str(folder / "out"),
        "--fps",
        str(fps),
    ]
    begin = time.monotonic()
    with open(log, "wb") as stream:
        child = subprocess.Popen([sys.executable, *step], stderr=stream)
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{STEP} failed on {minutes} minutes:\n{log.read_text()}")
    faces = (folder / "out" / "quality.ark").stat().st_size // 8  # two float32 a face, and a header
    return usage.ru_maxrss * 1024 / 1e6, usage.ru_utime + usage.ru_stime, time.monotonic() - begin, faces


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--clip", required=True, help="a video with faces")
    parser.add_argument("--detector", required=True, help="folder of the installed detector")
    parser.add_argument("--minutes", type=int, nargs="+", default=[1, 60], help="lengths to compare with the first")
    parser.add_argument("--fps", type=float, default=1.0, help="frames searched per second of video")
    parser.add_argument("--limit-mb", type=float, default=50.0, help="by how much the peaks may differ")
    parser.add_argument("--work-dir", help="folder for temporary files; default: the system's")
    cli.main(compare, parser.parse_args())
