#!/usr/bin/env python3
"""Find, select and align the faces of one job's segments.

Inputs:  vid.scp (segment, path of a video or a picture); an installed face detector; optionally face_boundingbox
         (segment, frame or seconds, x1 y1 x2 y2 in pixels).
Outputs, in --output-dir, joined over the jobs by utils/segment_jobs.py:
         faces.ark    per segment (N, 17) float32: frame, time_s, x1 y1 x2 y2 in pixels, score, 5 landmarks x y
         quality.ark  per segment (N, 2) float32: distance of the eyes in pixels, share of black pixels in the crop
         crops.tar    N lossless PNG of 112 x 112 RGB per segment
         thumbs.tar   one JPEG per segment for the contact sheet: its best frame with the faces drawn
         journal.jsonl  what is finished, with the segment's status; a killed job resumes after it

Decoding, resizing, the network and writing go on at the same time, in batches that run across segments
(vidperson/face/pipeline.py). A file that crashes the decoder, or takes it longer than --segment-timeout-s, costs only
its own segment: the work is done in a child process, which is started again there. Frames and videos beyond
--max-pixels and --max-duration-s are refused before memory is taken for them.

Without labels frames are sampled at --fps and every face is taken; with --labels the frames round each labelled time
are searched for the labelled person only.

Example:
  python steps_face/detect_faces.py --scp data/demo_dev_test/split2/1/vid.scp \\
      --model exp/face_models/retinaface_mnet025_pytorch \\
      --output-dir exp/face_det/retinaface_mnet025_pytorch/demo_dev_test/jobs2/1
"""

from __future__ import annotations

import logging
from argparse import ArgumentTypeError
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from vidperson import cli

if TYPE_CHECKING:
    from vidperson.face.candidates import SelectedFaces
    from vidperson.supervision import Watch

ARCHIVES = ("faces.ark", "quality.ark", "crops.tar", "thumbs.tar")
STATES = ("ok", "no_face", "damaged", "unreadable")
MAX_SCALE = 10  # larger ones show nothing more, and frames of such sizes fit into no memory


def detect_faces_supervised(output_dir: str, segment_timeout_s: float = 3600.0, **options: Any) -> None:
    """:func:`detect_faces` with these options in a child process that may crash or hang; see the top of the file."""
    from vidperson.io.job_store import JobStore
    from vidperson.io.matrices import matrix_bytes
    from vidperson.supervision import run_supervised

    def give_up(segment: str, why: str) -> None:
        import numpy as np

        none = [matrix_bytes(segment, np.zeros((0, 0)))]
        with JobStore(output_dir, ARCHIVES, STATES) as store:
            if segment not in store.statuses:
                entries = {"faces.ark": none, "quality.ark": none, "crops.tar": [], "thumbs.tar": []}
                store.append(segment, f"unreadable: {why}", entries)

    def work(watch: Watch) -> None:
        detect_faces(output_dir=output_dir, watch=watch, **options)

    run_supervised(work, give_up, segment_timeout_s or None)


def detect_faces(
    scp: str,
    model: str,
    output_dir: str,
    labels: str | None = None,
    label_unit: str = "seconds",
    det_window: int = 5,
    fps: float = 1.0,
    engine: str = "auto",
    device: str = "cpu",
    precision: str = "fp32",
    threads: int = 1,
    max_size: int = 800,
    det_batch: int = 1,
    det_scales: Sequence[float] = (1.0,),
    det_mirror: bool = False,
    nms_threshold: float = 0.4,
    det_threshold: float = 0.9,
    min_faces: int = 1,
    max_centre_distance: float = 1.0,
    discard_low_quality: bool = False,
    max_pixels: int = 100_000_000,
    max_duration_s: float = 86_400.0,
    watch: Watch | None = None,
) -> dict[str, str]:
    """Do the segments of ``scp`` that the job has not finished yet. Returns segment -> status.

    watch: told when a segment is begun and when it is stored.
    Raises VidPersonError for lists, models and options that are wrong; a bad video only gets a status.
    """
    import cv2

    from vidperson.face.candidates import SelectionPolicy
    from vidperson.face.detector import make_detector
    from vidperson.face.pipeline import Task, find_faces
    from vidperson.io.job_store import JobStore
    from vidperson.io.lists import read_boxes, read_paths
    from vidperson.media.limits import Limits
    from vidperson.media.sampling import UniformSampling, WindowSampling
    from vidperson.networks.install import installed_model
    from vidperson.networks.opening import open_network
    from vidperson.progress import Progress
    from vidperson.supervision import UNWATCHED

    watch = watch or UNWATCHED
    cv2.setNumThreads(threads)
    uniform = UniformSampling(fps)
    if labels:
        WindowSampling((), label_unit, det_window)  # wrong settings are refused even where there is no segment yet
    segments = read_paths(scp)
    boxes = read_boxes(labels) if labels else {}
    installed = installed_model(model)
    network = open_network(installed, engine, device, threads, precision, det_batch)
    detector = make_detector(network, installed.card, max_size, nms_threshold, det_scales, det_mirror)
    policy = SelectionPolicy(det_threshold, min_faces, max_centre_distance, discard_low_quality)
    limits = Limits(max_pixels, max_duration_s)
    with JobStore(output_dir, ARCHIVES, STATES) as store:
        progress = Progress(len(segments), "segments", done=len(store.statuses))
        tasks = []
        for segment, path in segments.items():
            if segment in store.statuses:
                continue
            found = boxes.get(segment, [])
            times = sorted({label.position for label in found})
            sampling: UniformSampling | WindowSampling | None = None
            if not labels:
                sampling = uniform
            elif found:
                sampling = WindowSampling(tuple(times), label_unit, det_window)
            at_times = [[label.box for label in found if label.position == time] for time in times]
            tasks.append(Task(segment, path, sampling, at_times))
        results = find_faces(tasks, detector, policy, det_batch, threads, limits, watch.begin, watch.alone)
        with closing(results):
            for segment, status, faces in results:
                store.append(segment, status, _archive_entries(segment, faces))
                watch.end(segment)
                logging.info("%s %s", segment, status)
                progress.step()
        return store.statuses


def _scales(text: str) -> list[float]:
    """Factors above 0 and up to ``MAX_SCALE``; none: 1. Raises argparse.ArgumentTypeError for others."""
    scales = [cli.positive(word) for word in text.split()] or [1.0]
    if max(scales) > MAX_SCALE:
        raise ArgumentTypeError(f"expected factors up to {MAX_SCALE}, found {text}")
    return scales


def _archive_entries(segment: str, faces: SelectedFaces) -> dict[str, Iterator[bytes]]:
    """The bytes that a segment adds to each archive."""
    import cv2

    from vidperson.io.crops import tar_entry
    from vidperson.io.matrices import matrix_bytes
    from vidperson.report.contact_sheet import draw_faces

    names = (f"{segment}/{number:05d}_{int(frame):07d}.png" for number, frame in enumerate(faces.rows[:, 0]))
    entries: dict[str, Iterator[bytes]] = {
        "faces.ark": iter([matrix_bytes(segment, faces.rows)]),
        "quality.ark": iter([matrix_bytes(segment, faces.quality)]),
        "crops.tar": (tar_entry(name, png) for name, png in zip(names, faces.crops, strict=True)),
        "thumbs.tar": iter([]),
    }
    if faces.thumbnail is not None:
        drawn = draw_faces(faces.thumbnail, faces.thumbnail_faces, faces.thumbnail.shape[1])
        jpeg = cv2.imencode(".jpg", drawn[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
        entries["thumbs.tar"] = iter([tar_entry(f"{segment}.jpg", jpeg)])
    return entries


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--scp", required=True, help="segment and path")
    parser.add_argument("--model", required=True, help="folder of the installed detector")
    parser.add_argument("--output-dir", required=True, help="the job's own folder")
    parser.add_argument("--labels", help="face_boundingbox: keep only the labelled person")
    parser.add_argument(
        "--label-unit", default="seconds", choices=["seconds", "frames"], help="unit of the labelled times"
    )
    parser.add_argument("--det-window", type=cli.whole(1), default=5, help="frames to search round a labelled time")
    parser.add_argument("--fps", type=float, default=1.0, help="frames to take per second of video, without labels")
    parser.add_argument("--engine", default="auto", help="what runs the network; auto: the best one here")
    parser.add_argument("--device", default="cpu", help="where the network runs: cpu, cuda or cuda:<number>")
    parser.add_argument("--precision", default="fp32", help="what the network computes in: fp32, bf16 or fp16")
    parser.add_argument("--threads", type=cli.whole(1), default=1, help="CPU threads of the decoder and of the network")
    parser.add_argument(
        "--max-size", type=cli.whole(1), default=800, help="long side in pixels that frames are brought down to"
    )
    parser.add_argument("--det-batch", type=cli.whole(1), default=1, help="frames per call of the network")
    parser.add_argument(
        "--det-scales", type=_scales, default="1", help="sizes to look at, as factors of that size, e.g. '0.5 1 1.5'"
    )
    parser.add_argument("--det-mirror", type=cli.flag, default=False, help="true: look at mirror images, too")
    parser.add_argument(
        "--nms-threshold",
        type=cli.share,
        default=0.4,
        help="intersection over union above which the lower box goes",
    )
    parser.add_argument("--det-threshold", type=cli.share, default=0.9, help="score from which on faces are kept")
    parser.add_argument(
        "--min-faces", type=cli.whole(0), default=1, help="a segment with fewer faces takes the next lower threshold"
    )
    parser.add_argument("--max-centre-distance", type=float, default=1.0, help="in diagonals of the label box")
    parser.add_argument("--discard-low-quality", type=cli.flag, default=False, help="true: drop small and cut faces")
    parser.add_argument(
        "--max-pixels", type=cli.whole(1), default=100_000_000, help="larger frames and pictures are refused"
    )
    parser.add_argument("--max-duration-s", type=cli.positive, default=86_400.0, help="longer videos are refused")
    parser.add_argument(
        "--segment-timeout-s",
        type=cli.not_negative,
        default=3600.0,
        help="seconds after which a segment is given up; 0: never",
    )
    cli.main(detect_faces_supervised, parser.parse_args())
