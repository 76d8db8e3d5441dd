#!/usr/bin/env python3
"""Train a face detector, and export the best epoch's with a model card.

Inputs:
  TRAIN_DATA         one or more folders or tars of photos
  TRAIN_ANNOTATIONS  the faces marked in them, in the format of WIDER FACE with RetinaFace's
                     landmarks (or dlib's .xml); without it the photos are not marked, and a teacher
                     is needed
  TEACHER            optional: folder of an installed RetinaFace network; the new one learns to give
                     its answers at every anchor, on the same augmented images
  HELD_OUT           so many photos, spread evenly, are not trained on but validated on after each
                     epoch
  VALID_ANNOTATIONS  validate on these marked photos of VALID_DATA instead
  TEST_DATA          photos that choose nothing: only the exported network is measured on them, for
                     its card; marked in TEST_ANNOTATIONS, if that is given
                     Reference faces are the marked ones; without marks, the teacher's.
  A photo that cannot be read is named in the log and left out.
Outputs, in OUTPUT_DIR, which is named like the network:
  <name>.onnx, <name>.yaml  the best epoch's network and its card:
                            ./run_000_get_pretrained_models.sh installs it
  last.pt, best.pt          everything to resume from, and the best epoch's weights
  log.jsonl, curves.png     losses and figures per step; TensorBoard files where the package
                            tensorboard is installed
Killed and run again, it resumes from last.pt and gives the same weights.

Example:
  python steps_face/train_detector.py --train-data WIDER_train/images \\
      --train-annotations label.txt --held-out 500 --output-dir exp/face_train/mnet
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vidperson import cli
from vidperson.training import command
from vidperson.training.command import TaughtOptions

if TYPE_CHECKING:
    from vidperson.face.annotations import FaceMarks
    from vidperson.face.photos import PhotoSet
    from vidperson.types import Detections


@dataclass(frozen=True)
class TrainDetectorOptions:
    """The options of this step."""

    training: TaughtOptions = cli.group(TaughtOptions)
    train_annotations: str = cli.option("", "list of the faces marked in them")
    architecture: str = cli.option("retinaface_mobilenet025", "network to train")
    augment: str = cli.option("mosaic=0.3 mirror=0.5 zoom=0.8", "changes and how often, 0..1")
    sizes: str = cli.option("320", "sides of the training images, of which each step takes one")
    batch_size: int = cli.option(32, "images per step, all GPUs together")
    held_out: int = cli.option(0, "photos to validate on, not to train on", convert=cli.whole(0))
    valid_data: list[str] = cli.option((), "folders or tars of photos to validate on")
    valid_annotations: str = cli.option("", "list of the faces marked in those")
    test_data: list[str] = cli.option((), "folders or tars of other photos to measure the chosen network on")
    test_annotations: str = cli.option("", "list of the faces marked in those")


def train_detector(options: TrainDetectorOptions) -> dict[str, Any]:
    """See the top of this file. Returns the figures of the exported network ({} without validation photos).

    Raises VidPersonError for data, settings and networks that are wrong, and for a loss that is not finite.
    """
    command.begin(options.training.threads)

    from vidperson.errors import TrainingError
    from vidperson.face.training_detector import DetectorRecipe, detector_card, plan_detector
    from vidperson.report.plots import training_curves
    from vidperson.training.loop import join_world

    recipe = DetectorRecipe(options.architecture, options.augment, options.sizes, options.batch_size)
    if not (options.train_annotations or options.training.teacher):
        raise TrainingError("there is nothing to learn from: give --train-annotations, or a --teacher, or both")
    if bool(options.valid_data) != bool(options.valid_annotations) or (options.valid_data and options.held_out):
        raise TrainingError("--valid-data and --valid-annotations are given together, and instead of --held-out")
    if options.test_annotations and not options.test_data:
        raise TrainingError("--test-annotations are of the photos of --test-data: give both")
    if options.test_data and not (options.test_annotations or options.training.teacher):
        raise TrainingError("--test-data needs --test-annotations, or a --teacher that marks its faces")
    photos, validation, test = _photos(options)
    card = detector_card(recipe, options.training)
    with join_world(options.training.device) as world:
        plan = plan_detector(recipe, card, options.training, photos, validation, test, measure, world)
        return command.run_plan(plan, options.training, world, training_curves)


def _photos(options: TrainDetectorOptions) -> tuple[PhotoSet, PhotoSet, PhotoSet]:
    """Those to train on, to choose the epoch by, and to measure the chosen network on."""
    from vidperson.face.annotations import read_annotations
    from vidperson.face.photos import read_photos
    from vidperson.io.pictures import held_out

    marks = read_annotations(options.train_annotations) if options.train_annotations else None
    photos = read_photos(options.training.train_data, marks)
    taught, kept = held_out(len(photos), options.held_out, "photos")
    test = photos.pick([])
    if options.test_data:
        marked = read_annotations(options.test_annotations) if options.test_annotations else None
        test = read_photos(options.test_data, marked)
    if options.valid_data:
        return photos, read_photos(options.valid_data, read_annotations(options.valid_annotations)), test
    return photos.pick(taught), photos.pick(kept), test


def measure(images: Iterable[tuple[Detections, FaceMarks]]) -> dict[str, Any]:
    """The figures of a validation: what was found in each image, with its reference faces."""
    from vidperson.face.annotations import MIN_HEIGHT, SCORE
    from vidperson.metrics.detectors import describe, detector_figures

    figures = detector_figures(images, SCORE, MIN_HEIGHT)
    logging.info("validation: %s", describe(figures))
    return figures


if __name__ == "__main__":
    cli.run(train_detector, TrainDetectorOptions, __doc__)
