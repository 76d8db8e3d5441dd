#!/usr/bin/env python3
"""Find the persons of one job's segments and cut them out of their frames.

Inputs:  vid.scp (segment, path of a video, an image or a folder of images, one second apart); an
         installed person detector.
Outputs, in --output-dir, joined over the jobs by utils/segment_jobs.py:
         bodies.ark   per segment (N, 7) float32: frame, time_s, x1 y1 x2 y2 in pixels, score; of
                      each frame the best score first
         quality.ark  per segment (N, 2) float32: height of the box in pixels, and 0, as boxes end
                      where the frame does
         shots.ark    per segment (S, 3) float32: seconds at which shots begin, among these frames, and
                      their width and height
         crops.tar    N lossless PNG of 256 x 128 RGB per segment
         thumbs.tar   one JPEG per segment for the contact sheet: its best frame with the boxes
         journal.jsonl  the finished segments with their status; a killed job resumes after them

Of videos the frames at --fps are searched. A segment without persons is `no_body`. Decoding, the
network and the rest run at the same time. A file that crashes the decoder, or takes it longer than
--segment-timeout-s, costs only its own segment.

Example:
  python steps_body/find_bodies.py --scp data/folder_test/vid.scp \\
      --model exp/body_models/yolox_nano_onnx \\
      --output-dir exp/body_det/yolox_nano_onnx/folder_test/jobs1/1
"""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from steps.items import LimitOptions, take_supervised
from steps.options import EngineOptions, open_model
from vidperson import cli
from vidperson.media.sampling import UniformSampling
from vidperson.supervision import UNWATCHED, Watch


@dataclass(frozen=True)
class PersonOptions:
    """How persons are found in a frame."""

    det_batch: int = cli.option(1, "frames per call of the network", convert=cli.whole(1))
    threshold: float = cli.option(0.5, "score from which on persons are kept", convert=cli.share)
    nms_threshold: float = cli.option(
        0.45, "intersection over union above which the lower scored box is dropped", convert=cli.share
    )


@dataclass(frozen=True)
class FindOptions:
    """See the top of this file."""

    scp: str = cli.option(help="list: segment and path")
    model: str = cli.option(help="folder of the installed detector")
    output_dir: str = cli.option(help="the job's own folder")
    fps: float = cli.option(UniformSampling.fps, "frames to search per second of video", convert=cli.positive)
    persons: PersonOptions = cli.group(PersonOptions)
    limits: LimitOptions = cli.group(LimitOptions)
    engine: EngineOptions = cli.group(EngineOptions)
    check: bool = cli.option(False, "true: only refuse wrong options, and import what the work needs")


def find_bodies_supervised(options: FindOptions) -> None:
    """:func:`find_bodies` in a child process that may crash or hang; see the top of the file."""
    if options.check:
        cli.load("vidperson.body.found", "vidperson.io.job_store", "vidperson.networks.opening")
        return
    from vidperson.body.gathering import STATES

    take_supervised(partial(find_bodies, options), "bodies", STATES, options.output_dir, options.limits)


def find_bodies(options: FindOptions, watch: Watch = UNWATCHED) -> None:
    """Do the segments that the job has not finished yet.

    Raises VidPersonError for lists, models and options that are wrong; a bad video only gets a status.
    """
    import cv2

    from vidperson.body import found
    from vidperson.body.detector import PersonDetector
    from vidperson.body.gathering import STATES
    from vidperson.io.items import archives_of
    from vidperson.io.job_store import JobStore
    from vidperson.io.lines import read_paths
    from vidperson.progress import Progress

    cv2.setNumThreads(options.engine.threads)
    paths, how = read_paths(options.scp), options.persons
    detector = PersonDetector(
        *open_model(options.model, options.engine, how.det_batch), how.threshold, how.nms_threshold
    )
    with JobStore(options.output_dir, archives_of("bodies"), STATES) as store:
        progress = Progress(len(paths), "segments", done=len(store.statuses))
        left = {segment: path for segment, path in paths.items() if segment not in store.statuses}
        results = found.find_bodies(
            left,
            detector.detect,
            UniformSampling(options.fps),
            how.det_batch,
            options.engine.threads,
            options.limits.of_media(),
            watch.begin,
            watch.alone,
        )
        with closing(results):
            for segment, status, bodies in results:
                store.append(segment, status, bodies.entries(segment))
                watch.end(segment)
                logging.info("%s %s", segment, status)
                progress.step()


if __name__ == "__main__":
    cli.run(find_bodies_supervised, FindOptions, __doc__)
