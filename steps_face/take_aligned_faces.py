#!/usr/bin/env python3
"""Take faces that are cut out and aligned already, for one job's segments: no detector is run.

Inputs:  frames.scp (segment, folder or uncompressed tar of its faces): square images of any size,
         in natural order of their names; they are brought to 112 x 112.
Outputs, in --output-dir, those of steps_face/detect_faces.py, joined over the jobs by
         utils/segment_jobs.py. The n-th image is frame n, at n seconds; its box is the whole image,
         its score 1, its landmarks are those that faces are aligned to.

Images that are damaged or not square are left out; then the segment has the status `damaged`. One
without any face left is `unreadable`. A file that crashes the decoder, or takes it longer than
--segment-timeout-s, costs only its own segment.

Example:
  python steps_face/take_aligned_faces.py --scp data/vox_test/frames.scp \\
      --output-dir exp/face_det/aligned/vox_test/jobs1/1
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from vidperson import cli
from vidperson.media.limits import Limits
from vidperson.supervision import UNWATCHED, Watch


@dataclass(frozen=True)
class TakeOptions:
    """The options of this step."""

    scp: str = cli.option(help="list: segment and folder or tar of aligned faces")
    output_dir: str = cli.option(help="the job's own folder")
    max_pixels: int = cli.option(Limits.max_pixels, "larger images are refused", convert=cli.whole(1))
    max_duration_s: float = cli.option(
        Limits.max_duration_s, "segments of more images are refused", convert=cli.positive
    )
    segment_timeout_s: float = cli.option(
        3600.0, "seconds after which a segment is given up; 0: never", convert=cli.not_negative
    )
    check: bool = cli.option(False, "true: only refuse wrong options, and import what the work needs")


def take_faces_supervised(options: TakeOptions) -> None:
    """:func:`take_aligned_faces` in a child process that may crash or hang; see the top of the file."""
    from vidperson.supervision import run_supervised

    if options.check:
        cli.load("cv2", "vidperson.face.aligned", "vidperson.face.detection")
        return

    def give_up(segment: str, why: str) -> None:
        from vidperson.face.detection import store_unreadable

        store_unreadable(options.output_dir, segment, why)

    run_supervised(lambda watch: take_aligned_faces(options, watch), give_up, options.segment_timeout_s or None)


def take_aligned_faces(options: TakeOptions, watch: Watch = UNWATCHED) -> None:
    """Do the segments that the job has not finished yet. Raises VidPersonError for lists that are wrong."""
    import cv2

    from vidperson.face.aligned import take_faces
    from vidperson.face.detection import open_store, store_faces
    from vidperson.io.lines import read_paths
    from vidperson.progress import Progress

    cv2.setNumThreads(1)
    limits = Limits(options.max_pixels, options.max_duration_s)
    paths = read_paths(options.scp)
    with open_store(options.output_dir) as store:
        progress = Progress(len(paths), "segments", done=len(store.statuses))

        def stored(segment: str, status: str) -> None:
            watch.end(segment)
            logging.info("%s %s", segment, status)
            progress.step()

        for segment, path in paths.items():
            if segment not in store.statuses:
                watch.begin(segment)
                store_faces(store, [take_faces(segment, path, limits)], stored)


if __name__ == "__main__":
    cli.run(take_faces_supervised, TakeOptions, __doc__)
