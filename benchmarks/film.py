"""CPU, wall time and memory of stages 1 and 2 on a film, beside decoding and detecting only.

Inputs:  clips with one talking person each; the installed person and face detectors, below --exp-dir.
Outputs: a Markdown table, one row per way; exit status 1 when the stages need over --limit times the CPU of decoding
         and detecting, or the longer film over --limit-mb more memory than one of half its length.

The film has 1280 x 720 pixels and 25 frames a second. Shots of 2 to 6 seconds show the persons in turn; two minutes
are composed, and repeated. "Only decoding and detecting" decodes every frame with libav, and gives as many frames as
stage 1 searched to both detectors, one after the other, in one process. The stages do it with two jobs.

Example:
  python benchmarks/film.py --clips a.mp4 b.mp4 c.mp4 d.mp4 e.mp4 --exp-dir exp --minutes 10
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from vidperson import cli

PIECE_S = 120
DETECTORS = ("yolox_nano_onnx", "retinaface_mnet025_pytorch")


class Use(NamedTuple):
    """What a child process and all that it started used."""

    cpu_s: float
    wall_s: float
    peak_mb: float

    def row(self, name: str) -> str:
        return f"| {name} | {self.cpu_s:.1f} | {self.wall_s:.1f} | {self.peak_mb:.0f} |"


def compare(clips: list[str], exp_dir: str, minutes: int, limit: float, limit_mb: float, work_dir: str | None) -> None:
    """Print the table and leave with the outcome."""
    from benchmarks.make_video import repeat

    with tempfile.TemporaryDirectory(dir=work_dir) as folder:
        work = Path(folder)
        piece = Path(work_dir or folder, "piece.mp4")
        if not piece.exists():
            run([sys.executable, __file__, "--compose", str(piece), "--clips", *clips])
        films = {length: work / f"{length}" / "film.mp4" for length in (minutes // 2, minutes)}
        for length, film in films.items():
            film.parent.mkdir()
            with open(piece, "rb") as stream:
                repeat(stream, -(-60 * length // PIECE_S), str(film), PIECE_S)
        (work / "cast/one").mkdir(parents=True)
        (work / "cast/one/clip.mp4").symlink_to(Path(clips[0]).resolve())
        print(f"| {minutes} minutes of 720p | CPU s | wall s | peak memory, MB |\n|---|---|---|---|", flush=True)
        half = stage("001_prepare_data", films[minutes // 2].parent, work, exp_dir)
        first = stage("001_prepare_data", films[minutes].parent, work, exp_dir)
        print(first.row("stage 1: shots, frames, persons"), flush=True)
        second = stage("002_detect_faces", films[minutes].parent, work, exp_dir)
        print(second.row("stage 2: faces and bodies"), flush=True)
        frames = len(list((work / "data/film_candidates/frames").glob("*/*.jpg")))
        bare = run(
            [sys.executable, __file__, "--bare", str(films[minutes]), "--exp-dir", exp_dir, "--frames", str(frames)]
        )
    print(bare.row(f"only decoding, and detecting in {frames} frames"))
    both = Use(first.cpu_s + second.cpu_s, first.wall_s + second.wall_s, max(first.peak_mb, second.peak_mb))
    ratio, more_mb = both.cpu_s / bare.cpu_s, first.peak_mb - half.peak_mb
    print(both.row("stages 1 and 2"))
    print(f"\nStages 1 and 2: {ratio:.2f} times the CPU of decoding and detecting (limit {limit:g}).")
    print(f"Stage 1 needs {more_mb:.0f} MB more than for half of the film (limit {limit_mb:.0f} MB).")
    if ratio > limit or more_mb > limit_mb:
        sys.exit(1)


def stage(name: str, films: Path, work: Path, exp_dir: str) -> Use:
    options = {
        "config-file": "global_conf/config_film.sh", "modalities": "face body", "nj": "2", "data-dir": work / "data",
        "film-videos": films, "film-persons": work / "cast", "body-detector": DETECTORS[0],
        "face-detector": DETECTORS[1], "exp-dir": work / "exp",
    }  # fmt: skip
    for modality in ("body", "face"):
        link = work / f"exp/{modality}_models"
        link.parent.mkdir(exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(Path(exp_dir, f"{modality}_models").resolve())
    return run([f"./run_{name}.sh", *(word for key, value in options.items() for word in (f"--{key}", str(value)))])


def run(command: list[str]) -> Use:
    """Runs it to its end; stops with its errors if it fails."""
    begin = time.monotonic()
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(command, stdout=log, stderr=log)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            log.seek(0)
            sys.exit(f"{command} failed:\n{log.read().decode()[-3000:]}")
    return Use(usage.ru_utime + usage.ru_stime, time.monotonic() - begin, usage.ru_maxrss * 1024 / 1e6)


def compose(clips: list[str], output: str) -> None:
    """Write two minutes of shots."""
    from fractions import Fraction

    import av
    import numpy as np

    from benchmarks.make_video import HEIGHT, RATE, WIDTH, endless

    rng = np.random.default_rng(0)
    persons = [endless(clip, WIDTH, HEIGHT) for clip in clips]
    with av.open(output, "w", "mp4") as container:
        stream = container.add_stream("libx264", RATE, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt, stream.codec_context.bit_rate = WIDTH, HEIGHT, "yuv420p", 2_000_000
        stream.codec_context.time_base = Fraction(1, RATE)
        number, shot = 0, 0
        while number < PIECE_S * RATE:
            length = min(int(rng.integers(2 * RATE, 6 * RATE)), PIECE_S * RATE - number)
            for frame in islice(persons[shot % len(persons)], length):
                frame.pts, frame.time_base = number, Fraction(1, RATE)
                frame.pict_type = av.video.frame.PictureType.NONE
                container.mux(stream.encode(frame))
                number += 1
            shot += 1
        container.mux(stream.encode(None))


def bare(film: str, exp_dir: str, frames: int) -> None:
    """Decode every frame, and give some of them to the detectors."""
    import av
    import cv2
    import numpy as np

    from steps.options import EngineOptions, open_model
    from vidperson.body.detector import PersonDetector
    from vidperson.face.detector import make_detector

    cv2.setNumThreads(1)
    persons = PersonDetector(*open_model(Path(exp_dir, "body_models", DETECTORS[0]), EngineOptions(), 1))
    faces = make_detector(*open_model(Path(exp_dir, "face_models", DETECTORS[1]), EngineOptions(), 1))
    with av.open(film) as container:
        stream = container.streams.video[0]
        every = max(1, stream.frames // max(1, frames))
        for number, frame in enumerate(container.decode(stream)):
            if number % every == 0:
                image = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
                persons.detect([image])
                faces.detect([image])


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--clips", nargs="+", default=[], help="a video per person")
    parser.add_argument("--exp-dir", default="exp", help="folder with the installed networks")
    parser.add_argument("--minutes", type=int, default=10, help="length of the film")
    parser.add_argument("--limit", type=float, default=1.3, help="most CPU, in that of decoding and detecting")
    parser.add_argument("--limit-mb", type=float, default=50.0, help="by how much the peaks may differ")
    parser.add_argument("--work-dir", help="folder to work in; the two minutes that are composed stay there")
    parser.add_argument("--compose", help="only write two minutes of shots, to this file")
    parser.add_argument("--bare", help="only decode this film and detect")
    parser.add_argument("--frames", type=int, default=0, help="frames to detect in, with --bare")
    given = parser.parse_args()
    if given.compose:
        compose(given.clips, given.compose)
    elif given.bare:
        bare(given.bare, given.exp_dir, given.frames)
    else:
        compare(given.clips, given.exp_dir, given.minutes, given.limit, given.limit_mb, given.work_dir)
