#!/usr/bin/env python3
"""Train a face embedding network, and export the best epoch's with a model card.

Inputs:
  TRAIN_DATA  one or more of: folder or tar of <identity>/<image>; <crops.tar>:<utt2spk> of stage 2;
              a folder in the layout of VoxCeleb2
              (frame_align/<identity>/<video>/<utterance>/*.jpg and train_all.txt).
              Faces are aligned as stage 2 does, square; other sizes than 112 x 112 are resized.
  TEACHER     optional: folder of an installed face network that the new one learns to imitate, on
              the same crops
  VALID_*     optional: images and pairs to measure each epoch on, as for
              steps_face/evaluate_pairs.py
Outputs, in OUTPUT_DIR, which is named like the network:
  <name>.onnx, <name>.yaml  the best epoch's network and its card:
                            ./run_000_get_pretrained_models.sh installs it
  last.pt, best.pt          everything to resume from, and the best epoch's weights
  log.jsonl, curves.png     losses and figures per step; TensorBoard files where the package
                            tensorboard is installed
Killed and run again, it resumes from last.pt and gives the same weights.

Example:
  python steps_face/train_embedder.py --train-data faces.tar --output-dir exp/face_train/r18 \\
      --valid-pictures lfw.tar --valid-pairs pairsDevTest.txt \\
      --valid-threshold-pairs pairsDevTrain.txt
Several GPUs:
  python -m torch.distributed.run --standalone --nproc-per-node 4 steps_face/train_embedder.py \\
      --device cuda ...
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vidperson import cli
from vidperson.training import command
from vidperson.training.command import IdentityOptions, TrainingOptions

if TYPE_CHECKING:
    from vidperson.face.training_embedder import Embed, Validation

VALID_BATCH = 64  # crops per call of the network where an epoch is measured


@dataclass(frozen=True)
class ValidationOptions:
    """What each epoch is measured on."""

    valid_pictures: str = cli.option("", "folder or tar of aligned faces to validate on")
    valid_pairs: str = cli.option("", "list of pairs to validate on")
    valid_threshold_pairs: str = cli.option("", "list of pairs to learn the threshold of")


@dataclass(frozen=True)
class TrainEmbedderOptions:
    """The options of this step."""

    training: TrainingOptions = cli.group(TrainingOptions)
    architecture: str = cli.option("iresnet18", "network to train")
    augment: str = cli.option("mirror=0.5", "changes and how often each is made, 0..1")
    batch_size: int = cli.option(400, "crops per step, all GPUs together")
    identity: IdentityOptions = cli.group(IdentityOptions)
    validation: ValidationOptions = cli.group(ValidationOptions)


def train_embedder(options: TrainEmbedderOptions) -> dict[str, Any]:
    """See the top of this file. Returns the figures of the exported network ({} without validation lists).

    Raises VidPersonError for data, settings and networks that are wrong, and for a loss that is not finite.
    """
    command.begin(options.training.threads)

    from vidperson.face.training_embedder import EmbedderRecipe, embedder_card, plan_embedder
    from vidperson.face.training_faces import read_faces
    from vidperson.report.plots import training_curves
    from vidperson.training.loop import join_world

    recipe = EmbedderRecipe(options.architecture, options.augment, options.batch_size, options.identity)
    validation = _validation(options.validation)
    faces = read_faces(options.training.train_data)
    card = embedder_card(recipe, options.training)
    with join_world(options.training.device) as world:
        plan = plan_embedder(recipe, card, options.training, faces, validation, world)
        return command.run_plan(plan, options.training, world, training_curves)


def _validation(options: ValidationOptions) -> Validation | None:
    """What is wrong with the lists and their images is said now, not after the first epoch."""
    from steps_face.evaluate_pairs import measure_pairs
    from vidperson.errors import TrainingError
    from vidperson.face.pairs import read_usable_pairs
    from vidperson.face.training_embedder import Validation
    from vidperson.io.pictures import list_pictures
    from vidperson.metrics.pairs import describe

    with_threshold = bool(options.valid_threshold_pairs)
    if bool(options.valid_pictures) != bool(options.valid_pairs) or (with_threshold and not options.valid_pairs):
        raise TrainingError("--valid-pictures and --valid-pairs are given together; --valid-threshold-pairs needs both")
    if not options.valid_pairs:
        return None
    pictures = list_pictures(options.valid_pictures)
    threshold_pairs = read_usable_pairs(options.valid_threshold_pairs, pictures) if with_threshold else None
    pairs = read_usable_pairs(options.valid_pairs, pictures)

    def measure(embed: Embed) -> dict[str, Any]:
        figures = measure_pairs(embed, pictures, pairs, threshold_pairs, VALID_BATCH)
        logging.info("validation: %s", describe(figures))
        return figures

    return Validation(measure, pairs.digest())


if __name__ == "__main__":
    cli.run(train_embedder, TrainEmbedderOptions, __doc__)
