#!/usr/bin/env python3
"""Measure a face detector against reference faces: those of another detector, or marked ones.

Inputs:
  MODEL             folder of an installed face detector
  PICTURES          folders or tars of images; only HELD_OUT of them, those that run_011 did not
                    train on, if given; one that cannot be read is named in the log and left out,
                    as are such videos
  VIDEOS            instead of images: a list `<segment> <path>`, of which FPS frames a second count
  REFERENCE_MODEL   folder of an installed detector; its faces, from SCORE on, are the reference
  ANNOTATIONS       instead: marked faces, in the format of WIDER FACE with RetinaFace's landmarks,
                    or dlib's .xml; with images, which are found by their names below PICTURES
Output, as JSON to OUTPUT if it is given, and in words to the log:
  recall            share of the reference faces of at least MIN_HEIGHT pixels that are found from
                    SCORE on, with an intersection over union of at least 0.5
  extra             faces of that height found from SCORE on without a reference face, per
                    reference face
  landmark_error    mean distance of the five landmarks of found faces over the distance of the eyes
  landmark_median   the median of that: one profile, with eyes at nearly one point, can rule the mean
  average_precision at intersection over union 0.5, whatever the score
  picture_recall    share of the images with reference faces in which any face is found from SCORE on
  num_pictures, num_faces, num_found

Example:
  python steps_face/evaluate_detector.py --model exp/face_models/retinaface_tiny \\
      --pictures photos.tar --held-out 300 \\
      --reference-model exp/face_models/retinaface_mnet025_pytorch
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from steps.options import EngineOptions
from steps_face.detect_faces import DetectorOptions, SamplingOptions
from vidperson import cli
from vidperson.face.annotations import MIN_HEIGHT, SCORE

if TYPE_CHECKING:
    from vidperson.face.references import Find, Marked

REFERENCE_PRECISION = "fp32"


@dataclass(frozen=True)
class DetectorFiguresOptions:
    """The options of this step; --precision is that of the measured detector, the reference runs in fp32."""

    model: str = cli.option(help="folder of an installed face detector")
    pictures: list[str] = cli.option((), "folders or tars of images")
    held_out: int = cli.option(0, "only so many images, which a training left out; 0: all", convert=cli.whole(0))
    videos: str = cli.option("", "list of videos, instead of images")
    fps: float = cli.option(SamplingOptions.fps, "frames per second of the videos", convert=cli.positive)
    reference_model: str = cli.option("", "folder of the detector to compare with")
    annotations: str = cli.option("", "list of marked faces to compare with")
    score: float = cli.option(SCORE, "score from which a detection is a face", convert=cli.not_negative)
    min_height: float = cli.option(MIN_HEIGHT, "height of a face to be found, pixels", convert=cli.not_negative)
    max_size: int = cli.option(
        DetectorOptions.max_size, "long side in pixels that images are brought down to", convert=cli.whole(1)
    )
    output: str = cli.option("", "JSON file to write the figures to")
    engine: EngineOptions = cli.group(EngineOptions)


def evaluate_detector(options: DetectorFiguresOptions) -> dict[str, Any]:
    """See the top of this file. Raises VidPersonError for what is missing, damaged or does not fit together."""
    from vidperson.errors import DataError
    from vidperson.io.atomic import atomic_write
    from vidperson.metrics.detectors import describe, detector_figures

    if bool(options.pictures) == bool(options.videos) or bool(options.reference_model) == bool(options.annotations):
        raise DataError("expected --pictures or --videos, and --reference-model or --annotations")
    if options.videos and (options.annotations or options.held_out):
        raise DataError("--annotations and --held-out go with --pictures, not with --videos")
    find = _open_detector(options, options.model, options.engine.precision)
    pairs = ((find(image), reference) for image, reference in _with_reference(options))
    figures = detector_figures(pairs, options.score, options.min_height)
    logging.info("%s: %s", options.model, describe(figures))
    if options.output:
        with atomic_write(options.output) as stream:
            stream.write(json.dumps(figures, indent=1) + "\n")
    return figures


def _with_reference(options: DetectorFiguresOptions) -> Marked:
    """The images, each with its reference faces."""
    from vidperson.face import references
    from vidperson.face.annotations import read_annotations

    if options.annotations:
        marks = read_annotations(options.annotations)
        yield from references.marked_photos(references.photos_to_measure_on(options.pictures, options.held_out, marks))
        return
    find = _open_detector(options, options.reference_model, REFERENCE_PRECISION)
    if options.videos:
        images = references.video_frames(options.videos, options.fps, options.engine.threads)
    else:
        photos = references.photos_to_measure_on(options.pictures, options.held_out)
        images = (image for _, image in references.readable_photos(photos))
    for image in images:
        yield image, references.reference_of(find, image, options.score)


def _open_detector(options: DetectorFiguresOptions, folder: str, precision: str) -> Find:
    from vidperson.face.annotations import LOWEST_SCORE
    from vidperson.face.detector import make_detector
    from vidperson.networks.install import installed_model
    from vidperson.networks.opening import open_network

    installed, engine = installed_model(folder), options.engine
    network = open_network(installed, engine.engine, engine.device, engine.threads, precision, batch=1)
    detector = make_detector(network, installed.card, options.max_size)
    return lambda image: detector.detect([image], LOWEST_SCORE)[0]


if __name__ == "__main__":
    cli.run(evaluate_detector, DetectorFiguresOptions, __doc__)
