#!/usr/bin/env python3
"""Find, select and align the faces of one job's segments.

Inputs:  vid.scp (segment, path of a video, an image or a folder of images, one second apart); an
         installed face detector; optionally face_boundingbox (segment, frame or seconds, x1 y1 x2
         y2 in pixels); or region (segment, x1 y1 x2 y2 in pixels) of the set with its vid.scp.
Outputs, in --output-dir, joined over the jobs by utils/segment_jobs.py:
         faces.ark    per segment (N, 17) float32: frame, time_s, x1 y1 x2 y2 in pixels, score,
                      5 landmarks x y
         quality.ark  per segment (N, 2) float32: distance of the eyes in pixels, share of black
                      pixels in the crop
         shots.ark    per segment (S, 3) float32: seconds at which shots begin, among the frames that
                      were searched, and their width and height
         crops.tar    N lossless PNG of 112 x 112 RGB per segment
         thumbs.tar   one JPEG per segment for the contact sheet: its best frame with faces drawn
         journal.jsonl  the finished segments with their status; a killed job resumes after them

Decoding, resizing, the network and writing run at the same time, in batches across segments
(vidperson/face/pipeline.py). A file that crashes the decoder, or takes it longer than
--segment-timeout-s, costs only its own segment: the work is done in a child process, which is
then started again. Frames and videos beyond --max-pixels and --max-duration-s are refused before
memory is taken for them.

Without labels, frames are sampled at --fps and every face is taken. With --frames fast, key frames
are searched first: what lies behind them is searched at --fps where one shows no sure face, or where
the next one is more than --longest-gap-s away. Where a short video shows no sure face, up to
--second-look frames are searched, spread over all of it. With --labels, only the frames around each
labelled time are searched, and only for the labelled person.

With --region, each segment is a person: that in its box, or in the whole frame without one. Of a frame
it has one face or none. Frames are taken at --fps, and each file is searched once for all segments of
the job that are in it. Its faces are given to the persons one to one, as vidperson/face/bodies.py says;
--all-scp names the persons that other jobs do. With --face-per-region true, the original's way, what
each box cuts out is enlarged to five sizes and searched by itself, and the best face is taken.
--max-size and --det-scales do not count then.

A face is sure from --det-threshold on. A segment with no sure face has the status `unsure`.
Its faces are kept only where --det-fallback allows it a lower threshold.

Example:
  python steps_face/detect_faces.py --scp data/demo_dev_test/split2/1/vid.scp \\
      --model exp/face_models/retinaface_mnet025_pytorch \\
      --output-dir exp/face_det/retinaface_mnet025_pytorch/demo_dev_test/jobs2/1
"""

from __future__ import annotations

import logging
from argparse import ArgumentTypeError
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from steps.items import LimitOptions
from steps.options import EngineOptions, open_model
from vidperson import cli
from vidperson.face.selection import SelectionPolicy
from vidperson.media.sampling import UniformSampling
from vidperson.supervision import UNWATCHED, Watch

if TYPE_CHECKING:
    from vidperson.face.detector import FaceDetector
    from vidperson.face.pipeline import Task
    from vidperson.media.hardware import GpuDecoder

FALLBACKS = ("labelled", "always", "never")
FRAMES = ("uniform", "fast")
MAX_SCALE = 10  # larger ones show nothing more, and frames of such sizes fit into no memory


def odd(value: str) -> int:
    """An odd number from 1 on. Raises argparse.ArgumentTypeError for anything else."""
    number = cli.whole(1)(value)
    if number % 2 == 0:
        raise ArgumentTypeError(f"expected an odd number of frames, found {value}")
    return number


def scales(text: str) -> list[float]:
    """Factors above 0 and up to ``MAX_SCALE``; none: 1. Raises argparse.ArgumentTypeError for others."""
    found = [cli.positive(word) for word in text.split()] or [1.0]
    if max(found) > MAX_SCALE:
        raise ArgumentTypeError(f"expected factors up to {MAX_SCALE}, found {text}")
    return found


@dataclass(frozen=True)
class SamplingOptions:
    """Which frames are searched."""

    fps: float = cli.option(
        UniformSampling.fps, "frames to take per second of video, without labels", convert=cli.positive
    )
    frames: str = cli.option(
        "uniform", "those at fps; or key frames first, at most fps, then only what these leave open", choices=FRAMES
    )
    longest_gap_s: float = cli.option(
        12.0, "with frames fast: seconds from one face to the next key frame, beyond which it searches between them",
        convert=cli.positive,
    )  # fmt: skip
    second_look: int = cli.option(
        5, "frames to search of a shorter video in which none shows a sure face; 0: no more", convert=cli.whole(0)
    )
    labels: str | None = cli.option(None, "face_boundingbox: keep only the labelled person")
    label_unit: str = cli.option("seconds", "unit of the labelled times", choices=("seconds", "frames"))
    det_window: int = cli.option(5, "frames to search around a labelled time", convert=odd)
    region: str | None = cli.option(None, "list of the set: segment and box of the person to find the face of")
    all_scp: str | None = cli.option(None, "with region: the set's whole list; empty: scp")
    face_per_region: bool = cli.option(False, "with region, true: search each box by itself, in five sizes")


@dataclass(frozen=True)
class DetectorOptions:
    """How a frame is given to the network."""

    max_size: int = cli.option(800, "long side in pixels that frames are brought down to", convert=cli.whole(1))
    det_batch: int = cli.option(1, "frames per call of the network", convert=cli.whole(1))
    det_scales: Sequence[float] = cli.option(
        (1.0,), "sizes to search at, as factors of that size, e.g. '0.5 1 1.5'; empty: 1", convert=scales
    )
    det_mirror: bool = cli.option(False, "true: search mirror images, too")
    nms_threshold: float = cli.option(
        0.4, "intersection over union above which the lower scored box is dropped", convert=cli.share
    )


@dataclass(frozen=True)
class SelectionOptions:
    """Which faces are kept."""

    det_threshold: float = cli.option(
        SelectionPolicy.threshold, "score from which on faces are kept", convert=cli.share
    )
    min_faces: int = cli.option(
        SelectionPolicy.min_faces, "with fewer faces, det_fallback takes a lower threshold", convert=cli.whole(0)
    )
    det_fallback: str = cli.option(
        "labelled", "segments that may take a lower threshold: those with labels, all or none", choices=FALLBACKS
    )
    max_centre_distance: float = cli.option(
        SelectionPolicy.max_centre_distance,
        "how far from the label a face may be, in diagonals of the label",
        convert=cli.not_negative,
    )
    discard_low_quality: bool = cli.option(SelectionPolicy.discard_low_quality, "true: drop small and cut faces")


@dataclass(frozen=True)
class DetectOptions:
    """The options of this step."""

    scp: str = cli.option(help="list: segment and path")
    model: str = cli.option(help="folder of the installed detector")
    output_dir: str = cli.option(help="the job's own folder")
    sampling: SamplingOptions = cli.group(SamplingOptions)
    detector: DetectorOptions = cli.group(DetectorOptions)
    selection: SelectionOptions = cli.group(SelectionOptions)
    limits: LimitOptions = cli.group(LimitOptions)
    engine: EngineOptions = cli.group(EngineOptions)
    decoder: str = cli.option(
        "software", "what decodes videos; cuda: an NVIDIA GPU, that of --device if given", choices=("software", "cuda")
    )
    check: bool = cli.option(False, "true: only refuse wrong options, and import what the work needs")


def detect_faces_supervised(options: DetectOptions) -> None:
    """:func:`detect_faces` in a child process that may crash or hang; see the top of the file."""
    from vidperson.supervision import run_supervised

    if options.check:
        if options.sampling.region:
            cli.load("scipy.optimize")
        cli.load("cv2", "vidperson.face.detection", "vidperson.face.pipeline", "vidperson.networks.opening")
        return

    def work(watch: Watch) -> None:
        detect_faces(options, watch)

    def give_up(segment: str, why: str) -> None:
        from vidperson.face.detection import STATES
        from vidperson.io.items import store_unreadable

        store_unreadable(options.output_dir, "faces", STATES, segment, why)

    run_supervised(work, give_up, options.limits.segment_timeout_s or None)


def detect_faces(options: DetectOptions, watch: Watch = UNWATCHED) -> dict[str, str]:
    """Do the segments that the job has not finished yet. Returns segment -> status.

    watch: told when a segment is begun and when it is stored.
    Raises VidPersonError for lists, models and options that are wrong; a bad video only gets a status.
    """
    import cv2

    from vidperson.face.detection import open_store, store_faces
    from vidperson.face.pipeline import find_faces
    from vidperson.io.lines import read_paths
    from vidperson.progress import Progress

    cv2.setNumThreads(options.engine.threads)
    segments = read_paths(options.scp)
    limits = options.limits.of_media()
    _tasks(options, {})  # what is wrong is refused before anything is opened or written
    gpu = _open_decoder(options)
    detector = _open_detector(options)
    with open_store(options.output_dir) as store:
        left = {segment: path for segment, path in segments.items() if segment not in store.statuses}
        tasks = _tasks(options, left)
        progress = Progress(len(segments), "segments", done=len(store.statuses))
        begun = {task.segment for task in tasks}

        def stored(segment: str, status: str) -> None:
            if segment in begun:  # others came with one of these
                watch.end(segment)
            logging.info("%s %s", segment, status)
            progress.step()

        batch, threads = options.detector.det_batch, options.engine.threads
        policy = selection_policy(options)
        found = find_faces(tasks, detector, policy, batch, threads, limits, watch.begin, watch.alone, gpu)
        with closing(found) as results:
            store_faces(store, results, left, stored)
        if gpu:
            logging.info(gpu.summary())
        return store.statuses


def selection_policy(options: DetectOptions) -> SelectionPolicy:
    """What decides which faces are kept; the fallback depends on whether there are labels."""
    chosen = options.selection
    return SelectionPolicy(
        threshold=chosen.det_threshold,
        min_faces=chosen.min_faces,
        fallback={"always": True, "never": False, "labelled": bool(options.sampling.labels)}[chosen.det_fallback],
        max_centre_distance=chosen.max_centre_distance,
        discard_low_quality=chosen.discard_low_quality,
    )


def _tasks(options: DetectOptions, segments: dict[str, str]) -> list[Task]:
    """What is to be searched of these segments."""
    from vidperson.face.detection import body_tasks, fast_tasks, labelled_tasks, uniform_tasks
    from vidperson.io.lines import read_paths
    from vidperson.io.lists import read_boxes, read_regions

    how = options.sampling
    uniform = UniformSampling(how.fps)  # refused where it is wrong, even if labels are searched
    if how.region:
        everybody = read_paths(how.all_scp) if how.all_scp else read_paths(options.scp)
        return body_tasks(segments, everybody, read_regions(how.region), uniform, how.face_per_region)
    if not how.labels:
        if how.frames == "fast":
            return fast_tasks(segments, how.fps, how.longest_gap_s, how.second_look)
        return uniform_tasks(segments, uniform, how.second_look)
    return labelled_tasks(segments, read_boxes(how.labels), how.label_unit, how.det_window)


def _open_decoder(options: DetectOptions) -> GpuDecoder | None:
    """What decodes videos instead of the CPU. Raises EngineError where it is not there."""
    from vidperson.engines import gpu_number
    from vidperson.media.hardware import GpuDecoder

    return None if options.decoder == "software" else GpuDecoder(gpu_number(options.engine.device) or 0)


def _open_detector(options: DetectOptions) -> FaceDetector:
    from vidperson.face.bodies import ORIGINAL_SCALES, ORIGINAL_SIDES
    from vidperson.face.detector import make_detector

    how = options.detector
    network, card = open_model(options.model, options.engine, how.det_batch)
    if options.sampling.region and options.sampling.face_per_region:
        enlarged = ORIGINAL_SCALES, how.det_mirror, ORIGINAL_SIDES
        return make_detector(network, card, how.max_size, how.nms_threshold, *enlarged)
    return make_detector(network, card, how.max_size, how.nms_threshold, how.det_scales, how.det_mirror)


if __name__ == "__main__":
    cli.run(detect_faces_supervised, DetectOptions, __doc__)
