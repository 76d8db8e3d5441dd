#!/usr/bin/env python3
"""Cut the persons of one job's segments out of their frames: no detector is run.

Inputs:  vid.scp (segment, path of a video, an image or a folder of images, one second apart);
         optionally region (segment, x1 y1 x2 y2 in pixels of the upright frame): where the person
         is. A segment that is not in it, and every one without it, is one person as a whole.
Outputs, in --output-dir, joined over the jobs by utils/segment_jobs.py:
         bodies.ark   per segment (N, 7) float32: frame, time_s, x1 y1 x2 y2 as given, score 1
         quality.ark  per segment (N, 2) float32: height of the box in pixels, share of it that lies
                      outside the frame
         shots.ark    per segment (S, 3) float32: seconds at which shots begin, among these frames, and
                      their width and height
         crops.tar    N lossless PNG of 256 x 128 RGB per segment, black outside the frame
         thumbs.tar   one JPEG per segment for the contact sheet: its first frame with the box
         journal.jsonl  the finished segments with their status; a killed job resumes after them

Of videos the frames at --fps are taken. The box is the same in all of them. If it is outside the
frame, the segment is `no_body`. A file that crashes the decoder, or takes it longer than
--segment-timeout-s, costs only its own segment.

Example:
  python steps_body/cut_bodies.py --scp data/market/vid.scp --region data/market/region \\
      --output-dir exp/body_det/given/market/jobs1/1
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from steps.items import LimitOptions, take_items, take_supervised
from vidperson import cli
from vidperson.media.sampling import UniformSampling
from vidperson.supervision import UNWATCHED, Watch

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class CutOptions:
    """See the top of this file."""

    scp: str = cli.option(help="list: segment and path")
    output_dir: str = cli.option(help="the job's own folder")
    region: str | None = cli.option(None, "list: segment and box; empty: every frame is one person as a whole")
    fps: float = cli.option(UniformSampling.fps, "frames to take per second of video", convert=cli.positive)
    limits: LimitOptions = cli.group(LimitOptions)
    threads: int = cli.option(1, "threads of the decoder", convert=cli.whole(1))
    check: bool = cli.option(False, "true: only refuse wrong options, and import what the work needs")


def cut_bodies_supervised(options: CutOptions) -> None:
    """:func:`cut_bodies` in a child process that may crash or hang; see the top of the file."""
    if options.check:
        cli.load("vidperson.body.given", "vidperson.io.job_store")
        return
    from vidperson.body.gathering import STATES

    take_supervised(partial(cut_bodies, options), "bodies", STATES, options.output_dir, options.limits)


def cut_bodies(options: CutOptions, watch: Watch = UNWATCHED) -> None:
    """Do the segments that the job has not finished yet. Raises VidPersonError for lists that are wrong."""
    from vidperson.body import given
    from vidperson.body.gathering import STATES
    from vidperson.io.lists import read_regions

    boxes = read_regions(options.region) if options.region else {}
    limits, sampling = options.limits.of_media(), UniformSampling(options.fps)

    def take(segment: str, path: str) -> tuple[str, dict[str, Iterator[bytes]]]:
        status, bodies = given.cut_bodies(path, boxes.get(segment), sampling, limits, options.threads)
        return status, bodies.entries(segment)

    take_items("bodies", STATES, options.scp, options.output_dir, take, watch)


if __name__ == "__main__":
    cli.run(cut_bodies_supervised, CutOptions, __doc__)
