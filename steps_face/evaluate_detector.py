#!/usr/bin/env python3
"""Measure a face detector against reference faces: those of another detector, or marked ones.

Inputs:
  MODEL             folder of an installed face detector
  PICTURES          folders or tars of pictures; HELD_OUT of them alone, those that run_011 did not train on, if given;
                    one that cannot be read is named in the log and left out, as are such videos
  VIDEOS            instead of pictures: a list `<segment> <path>`, of which FPS frames a second are looked at
  REFERENCE_MODEL   folder of an installed detector whose faces, from SCORE on, are the reference
  ANNOTATIONS       instead: marked faces, in the format of WIDER FACE with RetinaFace's landmarks, or dlib's .xml; with
                    pictures, which are found by their names below PICTURES
Output, as JSON to OUTPUT if it is given, and in words to the log:
  recall            share of the reference faces of at least MIN_HEIGHT pixels that are found from SCORE on,
                    with an intersection over union of at least 0.5
  extra             faces of that height found from SCORE on without a reference face, per reference face
  landmark_error    mean distance of the five landmarks of found faces over the distance of the eyes
  landmark_median   the median of that: one profile, whose eyes are all but one point, can rule the mean
  average_precision at intersection over union 0.5, whatever the score
  picture_recall    share of the pictures with reference faces in which any face is found from SCORE on
  num_pictures, num_faces, num_found

Example:
  python steps_face/evaluate_detector.py --model exp/face_models/retinaface_tiny --pictures photos.tar \\
      --held-out 300 --reference-model exp/face_models/retinaface_mnet025_pytorch
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from vidperson import cli

if TYPE_CHECKING:
    from vidperson.face.annotations import FaceMarks
    from vidperson.face.photos import PhotoSet
    from vidperson.types import Detections, Image

MIN_OVERLAP = 0.5
SCORE, MIN_HEIGHT = 0.9, 40.0
LOWEST_SCORE = 0.02


def detector_figures(
    detect: Callable[[Image], Detections],
    pictures: Iterable[tuple[Image, FaceMarks]],
    score: float = SCORE,
    min_height: float = MIN_HEIGHT,
) -> dict[str, Any]:
    """The figures of the top of this file.

    detect: (H, W, 3) uint8 RGB to the faces with a score from LOWEST_SCORE on, best first.
    pictures: each with its reference faces; smaller ones than ``min_height`` are neither asked for nor wrong.
    Raises DataError where there is no reference face of that height.
    """
    import numpy as np

    from vidperson import metrics
    from vidperson.errors import DataError

    scores: list[np.ndarray] = []
    correct: list[np.ndarray] = []
    errors: list[np.ndarray] = []
    counts = {"num_pictures": 0, "num_faces": 0, "num_found": 0}
    extra = seen = with_faces = 0
    for image, reference in pictures:
        found = detect(image)
        tall = _heights(reference.boxes) >= min_height
        matches = metrics.match_boxes(found.boxes, reference.boxes, MIN_OVERLAP)
        matched = matches >= 0
        # What is small, in the reference or found without one, does not count.
        counted = np.where(matched, tall[matches] if len(tall) else False, _heights(found.boxes) >= min_height)
        scores.append(found.scores[counted])
        correct.append(matched[counted])
        good = counted & (found.scores >= score)
        extra += int((good & ~matched).sum())
        counts["num_pictures"] += 1
        counts["num_faces"] += int(tall.sum())
        counts["num_found"] += int((good & matched).sum())
        if tall.any():
            with_faces += 1
            seen += bool((found.scores >= score).any())
        pairs = good & matched
        errors.append(metrics.landmark_error(found.landmarks[pairs], reference.landmarks[matches[pairs]]))
    if not counts["num_faces"]:
        raise DataError(f"no reference face of at least {min_height:g} pixels in {counts['num_pictures']} pictures")
    distances = np.concatenate(errors)
    known = distances[~np.isnan(distances)]
    return {
        "recall": counts["num_found"] / counts["num_faces"],
        "extra": extra / counts["num_faces"],
        **({"landmark_error": float(known.mean()), "landmark_median": float(np.median(known))} if len(known) else {}),
        "average_precision": metrics.average_precision(
            np.concatenate(scores), np.concatenate(correct), counts["num_faces"]
        ),
        "picture_recall": seen / with_faces,
        **counts,
    }


def describe(figures: dict[str, Any]) -> str:
    """The figures in a line."""
    landmarks = ""
    if "landmark_error" in figures:
        mean, median = figures["landmark_error"], figures["landmark_median"]
        landmarks = f", landmark error {mean:.2%} of the eyes' distance (median {median:.2%})"
    return (
        f"{figures['num_found']} of {figures['num_faces']} faces found ({figures['recall']:.2%}), extra "
        f"{figures['extra']:.2%}{landmarks}, AP {figures['average_precision']:.4f}, a face in "
        f"{figures['picture_recall']:.2%} of the pictures that have one"
    )


def reference_of(detect: Callable[[Image], Detections], image: Image, score: float) -> FaceMarks:
    """What a detector finds in a picture with a score from ``score`` on, as reference faces."""
    from vidperson.face.annotations import FaceMarks

    found = detect(image)
    good = found.scores >= score
    return FaceMarks(found.boxes[good], found.landmarks[good])


def sound_photos(photos: PhotoSet) -> Iterator[tuple[int, Image]]:
    """The photos, each with its number; one that cannot be read is named in the log and left out."""
    from vidperson.errors import MediaError
    from vidperson.media.image import decode_sound_image

    for item in range(len(photos)):
        try:
            image = photos.read(item, decode_sound_image)
        except (MediaError, OSError) as error:
            logging.warning("left out: %s", error)
            continue
        yield item, image


def evaluate_detector(
    model: str,
    pictures: list[str],
    held_out: int = 0,
    videos: str = "",
    fps: float = 1.0,
    reference_model: str = "",
    annotations: str = "",
    score: float = SCORE,
    min_height: float = MIN_HEIGHT,
    max_size: int = 800,
    output: str = "",
    engine: str = "auto",
    device: str = "cpu",
    precision: str = "fp32",
    threads: int = 1,
) -> dict[str, Any]:
    """See the top of this file. Raises VidPersonError for what is missing, damaged or does not fit together."""
    from vidperson.errors import DataError
    from vidperson.face.annotations import read_annotations
    from vidperson.face.detector import make_detector
    from vidperson.io.atomic import atomic_write
    from vidperson.networks.install import installed_model
    from vidperson.networks.opening import open_network

    if bool(pictures) == bool(videos) or bool(reference_model) == bool(annotations):
        raise DataError("expected --pictures or --videos, and --reference-model or --annotations")
    if videos and (annotations or held_out):
        raise DataError("--annotations and --held-out go with --pictures, not with --videos")

    def open_detector(folder: str, precision: str = "fp32") -> Callable[[Image], Detections]:
        installed = installed_model(folder)
        network = open_network(installed, engine, device, threads, precision, batch=1)
        detector = make_detector(network, installed.card, max_size)
        return lambda image: detector.detect([image], LOWEST_SCORE)[0]

    def with_reference() -> Iterator[tuple[Image, FaceMarks]]:
        if annotations:
            photos = _photos(pictures, held_out, read_annotations(annotations))
            assert photos.marks is not None
            for item, image in sound_photos(photos):
                yield image, photos.marks[item]
            return
        find = open_detector(reference_model)
        images = _frames(videos, fps, threads) if videos else (i for _, i in sound_photos(_photos(pictures, held_out)))
        for image in images:
            yield image, reference_of(find, image, score)

    figures = detector_figures(open_detector(model, precision), with_reference(), score, min_height)
    logging.info("%s: %s", model, describe(figures))
    if output:
        with atomic_write(output) as stream:
            stream.write(json.dumps(figures, indent=1) + "\n")
    return figures


def _heights(boxes: Any) -> Any:
    return boxes[:, 3] - boxes[:, 1]


def has_tall_face(marks: FaceMarks) -> bool:
    """Whether a picture has a reference face that counts in training's validation."""
    return bool((_heights(marks.boxes) >= MIN_HEIGHT).any())


def _photos(sources: list[str], wanted: int, marks: dict[str, FaceMarks] | None = None) -> PhotoSet:
    from vidperson.face.photos import held_out, read_photos

    photos = read_photos(sources, marks)
    return photos.pick(held_out(len(photos), wanted)[1]) if wanted else photos


def _frames(scp: str, fps: float, threads: int) -> Iterator[Image]:
    from vidperson.errors import MediaError
    from vidperson.io.lists import read_paths
    from vidperson.media.sampling import UniformSampling
    from vidperson.media.video import FrameReader

    for segment, path in read_paths(scp).items():
        try:
            with FrameReader(path, UniformSampling(fps), threads) as reader:
                for frame in reader:
                    yield frame.image
        except MediaError as error:
            logging.warning("%s: left out: %s", segment, error)


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--model", required=True, help="folder of an installed face detector")
    parser.add_argument("--pictures", nargs="*", default=[], help="folders or tars of pictures")
    parser.add_argument("--held-out", type=int, default=0, help="look at these alone, which training left out; 0: all")
    parser.add_argument("--videos", default="", help="list of videos, instead of pictures")
    parser.add_argument("--fps", type=float, default=1.0, help="frames per second of the videos")
    parser.add_argument("--reference-model", default="", help="folder of the detector to compare with")
    parser.add_argument("--annotations", default="", help="list of marked faces to compare with")
    parser.add_argument("--score", type=float, default=SCORE, help="score from which a detection is a face")
    parser.add_argument("--min-height", type=float, default=MIN_HEIGHT, help="height of a face to be found, pixels")
    parser.add_argument("--max-size", type=int, default=800, help="long side that pictures are brought down to")
    parser.add_argument("--output", default="", help="JSON file to write the figures to")
    parser.add_argument("--engine", default="auto", help="what runs the networks; auto: the best one here")
    parser.add_argument("--device", default="cpu", help="where the networks run: cpu, cuda or cuda:<number>")
    parser.add_argument(
        "--precision", default="fp32", help="of the network: fp32, bf16 or fp16; the reference is in fp32"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the networks")
    cli.main(evaluate_detector, parser.parse_args())
