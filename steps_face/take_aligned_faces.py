#!/usr/bin/env python3
"""Take faces that are cut out and aligned already, for one job's segments: no detector is run.

Inputs:  frames.scp (segment, folder or uncompressed tar of its faces): square images of any size,
         in natural order of their names; they are brought to 112 x 112. --aligned-faces 5: only
         five of each segment, at equal steps.
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

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from steps.items import LimitOptions, take_items, take_supervised
from vidperson import cli
from vidperson.supervision import UNWATCHED, Watch


@dataclass(frozen=True)
class TakeOptions:
    """The options of this step."""

    scp: str = cli.option(help="list: segment and folder or tar of aligned faces")
    output_dir: str = cli.option(help="the job's own folder")
    aligned_faces: int = cli.option(0, "images per segment, at equal steps; 0: all", convert=cli.whole(0))
    limits: LimitOptions = cli.group(LimitOptions)
    check: bool = cli.option(False, "true: only refuse wrong options, and import what the work needs")


def take_faces_supervised(options: TakeOptions) -> None:
    """:func:`take_aligned_faces` in a child process that may crash or hang; see the top of the file."""
    if options.check:
        cli.load("cv2", "vidperson.face.aligned", "vidperson.face.detection")
        return
    from vidperson.face.detection import STATES

    take_supervised(partial(take_aligned_faces, options), "faces", STATES, options.output_dir, options.limits)


def take_aligned_faces(options: TakeOptions, watch: Watch = UNWATCHED) -> None:
    """Do the segments that the job has not finished yet. Raises VidPersonError for lists that are wrong."""
    from vidperson.face.aligned import take_faces
    from vidperson.face.detection import STATES, archive_entries

    limits = options.limits.of_media()

    def take(segment: str, path: str) -> tuple[str, dict[str, Iterator[bytes]]]:
        _, status, faces = take_faces(segment, path, limits, options.aligned_faces)
        return status, archive_entries(segment, faces)

    take_items("faces", STATES, options.scp, options.output_dir, take, watch)


if __name__ == "__main__":
    cli.run(take_faces_supervised, TakeOptions, __doc__)
