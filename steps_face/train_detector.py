#!/usr/bin/env python3
"""Train a face detector, and export the best epoch's with a model card.

Inputs:
  TRAIN_DATA         one or more folders or tars of photos
  TRAIN_ANNOTATIONS  the faces marked in them, in the format of WIDER FACE with RetinaFace's landmarks (or dlib's .xml);
                     without it the photos are not marked, and a teacher is needed
  TEACHER            optional: folder of an installed RetinaFace network whose answers at every anchor the new one
                     learns to give, on the same augmented pictures
  HELD_OUT           so many photos, spread evenly, are not trained on but validated on after each epoch
  VALID_ANNOTATIONS  validate on these marked photos of VALID_DATA instead
                     Reference faces are the marked ones; without marks, the teacher's.
  A photo that cannot be read is named in the log and left out.
Outputs, in OUTPUT_DIR, whose last part is the network's name:
  <name>.onnx, <name>.yaml  the best epoch's network and its card: ./run_000_get_pretrained_models.sh installs it with
                            --face-detector OUTPUT_DIR/<name>.yaml
  last.pt, best.pt          everything to go on from, and the best epoch's weights
  log.jsonl, curves.png     losses and figures per step; TensorBoard files where the package tensorboard is installed
Killed and run again it goes on from last.pt and gives the same weights.

Example:
  python steps_face/train_detector.py --train-data WIDER_train/images --train-annotations label.txt \\
      --held-out 500 --output-dir exp/face_train/mnet
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidperson import cli
from vidperson.training import command

if TYPE_CHECKING:
    from torch import nn

    from vidperson.face.annotations import FaceMarks
    from vidperson.networks.card import ModelCard
    from vidperson.types import Image

MEAN = STD = (127.5, 127.5, 127.5)


def train_detector(
    train_data: list[str],
    output_dir: str,
    train_annotations: str = "",
    architecture: str = "retinaface_mobilenet025",
    augment: str = "mosaic=0.3 mirror=0.5 zoom=0.8",
    sizes: str = "320",
    batch_size: int = 32,
    teacher: str = "",
    init: str = "",
    held_out: int = 0,
    valid_data: list[str] | None = None,
    valid_annotations: str = "",
    licence: str = "none stated",
    homepage: str = "none: trained by this recipe",
    half_weights: bool = False,
    device: str = "cpu",
    engine: str = "auto",
    threads: int = 1,
    workers: int = 0,
    **settings: Any,
) -> dict[str, Any]:
    """See the top of this file. ``settings`` are the fields of ``vidperson.training.settings.Settings``.

    Returns the figures of the exported network ({} without validation photos).
    Raises VidPersonError for data, settings and networks that are wrong, and for a loss that is not finite.
    """
    import numpy as np

    command.begin(threads)
    import torch

    from steps_face import evaluate_detector as measure
    from vidperson.errors import DataError, TrainingError
    from vidperson.face import photos as io_photos
    from vidperson.face.annotations import read_annotations
    from vidperson.face.detector import RetinaFaceDetector, make_detector
    from vidperson.face.training_detector import DetectorTask, ask_teacher
    from vidperson.face.training_photos import PhotoAugmentation, PhotoBatches
    from vidperson.media.image import decode_sound_image
    from vidperson.networks.card import Input, Output
    from vidperson.networks.convert import DETECTORS, build_network
    from vidperson.networks.install import InstalledModel, installed_model
    from vidperson.networks.opening import open_network
    from vidperson.report.plots import training_curves
    from vidperson.training.batches import TaughtBatches
    from vidperson.training.export import as_engine, new_card
    from vidperson.training.loop import Batches, join_world, start_from, train
    from vidperson.training.settings import Settings

    how = Settings(**settings)
    if architecture not in DETECTORS:
        raise TrainingError(f"architecture: expected one of {' '.join(DETECTORS)}, found '{architecture}'")
    if not (train_annotations or teacher):
        raise TrainingError("there is nothing to learn from: give --train-annotations, or a --teacher, or both")
    if bool(valid_data) != bool(valid_annotations) or (valid_data and held_out):
        raise TrainingError("--valid-data and --valid-annotations are given together, and instead of --held-out")
    try:
        picture_sizes = [int(word) for word in sizes.split()]
    except ValueError:
        raise TrainingError(f"picture sizes: expected whole numbers, found '{sizes}'") from None
    augmentation = PhotoAugmentation.parse(augment)
    photos = io_photos.read_photos(train_data, read_annotations(train_annotations) if train_annotations else None)
    taught, kept = io_photos.held_out(len(photos), held_out)
    photos, validation = photos.pick(taught), photos.pick(kept)
    if valid_data:
        validation = io_photos.read_photos(valid_data, read_annotations(valid_annotations))
    folder = Path(output_dir)
    card = new_card(
        folder.name,
        "face_detector",
        f"{architecture}, boxes, scores and five landmarks, trained by run_011_train_face_detector.sh",
        licence,
        homepage,
        Input("rgb", MEAN, STD),
        Output(decoder="retinaface"),
    )

    with join_world(device) as world:
        torch.manual_seed(how.seed)
        network = build_network(architecture, card.input, card.output)
        recipe: dict[str, Any] = {
            "architecture": architecture,
            "augment": " ".join(augment.split()),
            "sizes": " ".join(map(str, picture_sizes)),
            "batch_size": batch_size,
            "items": len(photos),
            "items_sha256": photos.digest(),
            "marked": photos.marks is not None,
        }
        data = f"{len(photos)} {'marked ' if photos.marks is not None else ''}photos"
        logging.info("training data: %s; %d photos to validate on", data, len(validation))
        data += f" ({' '.join(Path(name).name for name in train_data)})"
        places = None
        if init:
            recipe["init"] = start_from(network, init)
        if teacher:
            installed = installed_model(teacher)
            precision = command.teacher_precision(how.precision, engine)
            for_pictures = make_detector(open_network(installed, engine, "cpu", threads, precision), installed.card)
            exact = make_detector(open_network(installed, engine, "cpu", threads), installed.card)
            if not isinstance(for_pictures, RetinaFaceDetector) or not isinstance(exact, RetinaFaceDetector):
                raise TrainingError(f"{installed.card.name}: a teacher has RetinaFace's anchors, this one has others")

            def find(image: Image) -> FaceMarks:
                return measure.reference_of(lambda one: exact.detect([one])[0], image, measure.SCORE)

            if photos.marks is None and augmentation.aim:
                faces = {item: find(image).boxes for item, image in measure.sound_photos(photos)}
                places = [faces.get(item, np.zeros((0, 4), np.float32)) for item in range(len(photos))]
            recipe["teacher"] = f"{installed.card.name} {installed.sha256}"
            data += f"; teacher {installed.card.name}, trained on {installed.card.training_data}"
        pictures = PhotoBatches(
            photos,
            decode_sound_image,
            batch_size,
            augmentation,
            picture_sizes,
            how.seed,
            world.rank,
            world.ranks,
            workers,
            places,
        )
        batches: Batches = pictures
        if teacher:
            ask = ask_teacher(
                lambda images: for_pictures.network(for_pictures.prepare(list(images), *images.shape[1:3]))
            )
            batches = TaughtBatches(pictures, ask)
        folder.mkdir(parents=True, exist_ok=True)

        # Rank 0 validates; whether there is anything to be found is seen before the first epoch.
        usable: list[int] = []
        references: list[FaceMarks] = []
        for item, image in measure.sound_photos(validation) if world.rank == 0 else ():
            usable.append(item)
            references.append(find(image) if validation.marks is None else validation.marks[item])
        if len(validation) and world.rank == 0 and not any(map(measure.has_tall_face, references)):
            raise DataError(
                f"none of the {len(validation)} photos to validate on shows a reference face of at least "
                f"{measure.MIN_HEIGHT:g} pixels; name others"
            )
        sound = validation.pick(usable)
        with_landmarks = any(np.isfinite(marks.landmarks).any() for marks in references)

        def figures_of(run: Any, card: ModelCard) -> dict[str, Any]:
            detector = make_detector(run, card)
            figures = measure.detector_figures(
                lambda image: detector.detect([image], measure.LOWEST_SCORE)[0],
                ((image, references[item]) for item, image in measure.sound_photos(sound)),
            )
            logging.info("validation: %s", measure.describe(figures))
            return figures

        def validate(network: nn.Module) -> dict[str, float]:
            figures = figures_of(as_engine(network, world.device, how.precision), card)
            # One number to choose the epoch by: faces found, and landmarks where they belong, if that is known.
            misplaced = min(1.0, figures.get("landmark_median", 1.0)) if with_landmarks else 0.0
            return {**figures, "quality": figures["average_precision"] - misplaced}

        def figures_of_file(path: Path, card: ModelCard) -> dict[str, Any]:
            return figures_of(open_network(InstalledModel(card, path, ""), engine, "cpu", threads), card)

        task = DetectorTask(network, MEAN, STD)
        report = command.reporter(folder, pictures.steps_per_epoch, training_curves)
        validates = validate if len(validation) else None
        best = train(task, batches, how, folder, world, validates, "quality", sound.digest(), recipe, report)
        if world.rank != 0:
            return {}
        card = dataclasses.replace(card, training_data=data)
        measured = figures_of_file if len(validation) else None
        return command.finish(folder, card, half_weights, pictures, best, recipe, how, measured, training_curves)


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    command.add_arguments(parser)
    parser.add_argument("--train-annotations", default="", help="list of the faces marked in them")
    parser.add_argument("--architecture", default="retinaface_mobilenet025", help="network to train")
    parser.add_argument("--augment", default="mosaic=0.3 mirror=0.5 zoom=0.8", help="changes and how often, 0..1")
    parser.add_argument("--sizes", default="320", help="sides of the training pictures, of which each step takes one")
    parser.add_argument("--batch-size", type=int, default=32, help="pictures per step, all GPUs together")
    parser.add_argument("--held-out", type=cli.whole(0), default=0, help="photos to validate on, not to train on")
    parser.add_argument("--valid-data", nargs="*", default=[], help="folders or tars of photos to validate on")
    parser.add_argument("--valid-annotations", default="", help="list of the faces marked in those")
    cli.main(train_detector, parser.parse_args())
