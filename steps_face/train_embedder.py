#!/usr/bin/env python3
"""Train a face embedding network, and export the best epoch's with a model card.

Inputs:
  TRAIN_DATA  one or more of: folder or tar of <identity>/<image>; <crops.tar>:<utt2spk> of stage 2;
              a data folder with utt2spk: one random face of each segment per epoch, of frames.scp
              or else of what stage 2 cut out, in ITEMS_DIR.
              Faces are aligned as stage 2 does, square; other sizes than 112 x 112 are resized.
  TEACHER     optional: folder of an installed face network that the new one learns to imitate, on
              the same crops
  VALID_*     optional: images and pairs of them, as for steps_face/evaluate_pairs.py; the epoch
              with the lowest equal error rate on these pairs is kept
  TEST_PAIRS  optional: pairs of those images and of other persons. They choose nothing: only the
              exported network is measured on them, for its card
Outputs, in OUTPUT_DIR, which is named like the network:
  <name>.onnx, <name>.yaml  the best epoch's network and its card:
                            ./run_000_get_pretrained_models.sh installs it
  last.pt, best.pt          everything to resume from, and the best epoch's weights
  log.jsonl, curves.png     losses and figures per step; TensorBoard files where the package
                            tensorboard is installed
Killed and run again, it resumes from last.pt and gives the same weights.

Example:
  python steps_face/train_embedder.py --train-data faces.tar --output-dir exp/face_train/r18 \\
      --valid-pictures lfw.tar --valid-pairs pairsDevTrain.txt --test-pairs pairsDevTest.txt
Several GPUs:
  python -m torch.distributed.run --standalone --nproc-per-node 4 steps_face/train_embedder.py \\
      --device cuda ...
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidperson import cli
from vidperson.training import command
from vidperson.training.command import IdentityOptions, TaughtOptions

if TYPE_CHECKING:
    from vidperson.face.training_embedder import Embed, Validation

VALID_BATCH = 64  # crops per call of the network where an epoch is measured


@dataclass(frozen=True, kw_only=True)
class FaceTrainingOptions(TaughtOptions):
    """Faces may be those of data sets."""

    items_dir: str = cli.option("exp/face_det/given", "what stage 2 cut out, a folder per data folder")


@dataclass(frozen=True)
class ValidationOptions:
    """What the epochs, and what the network that is kept, are measured on."""

    valid_pictures: str = cli.option("", "folder or tar of aligned faces of both lists")
    valid_pairs: str = cli.option("", "list of pairs to choose the epoch by")
    test_pairs: str = cli.option("", "list of pairs of other persons to measure the chosen network on")


@dataclass(frozen=True)
class TrainEmbedderOptions:
    """The options of this step."""

    training: FaceTrainingOptions = cli.group(FaceTrainingOptions)
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
    faces = read_faces(options.training.train_data, options.training.items_dir)
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
    from vidperson.metrics.pairs import describe as in_words

    if bool(options.valid_pictures) != bool(options.valid_pairs) or (options.test_pairs and not options.valid_pairs):
        raise TrainingError("--valid-pictures and --valid-pairs are given together; --test-pairs needs both")
    if not options.valid_pairs:
        return None
    pictures = list_pictures(options.valid_pictures)
    pairs, test = read_usable_pairs(options.valid_pairs, pictures), None
    if options.test_pairs:
        test = read_usable_pairs(options.test_pairs, pictures)
        choosing, tested = pairs.persons(), test.persons()
        both = sorted(set(choosing or ()) & set(tested or ()))
        if choosing is None or tested is None:
            logging.warning(
                "%s: folders are not persons (one folder each): it cannot be told whether %s shares persons with %s",
                options.valid_pairs if choosing is None else options.test_pairs,
                options.test_pairs,
                options.valid_pairs,
            )
        elif both:
            raise TrainingError(
                f"{options.test_pairs}: expected other persons than in {options.valid_pairs}, which chooses the epoch; "
                f"{len(both)} are in both, first '{both[0]}'"
            )
    else:
        logging.warning("the pairs that choose the epoch also give the figures of the card: name --test-pairs")

    def measure(embed: Embed) -> dict[str, Any]:
        figures = measure_pairs(embed, pictures, pairs, None, VALID_BATCH)
        logging.info("validation: %s", in_words(figures))
        return figures

    def describe(embed: Embed) -> dict[str, Any]:
        threshold_pairs = pairs if test else None
        figures = measure_pairs(embed, pictures, test or pairs, threshold_pairs, VALID_BATCH, True)
        measured_on, chosen_on = (
            Path(path).name for path in (options.test_pairs or options.valid_pairs, options.valid_pairs)
        )
        logging.info("the network that is kept, on %s: %s", measured_on, in_words(figures))
        return {"measured_on": measured_on, "epoch_chosen_on": chosen_on, **figures}

    return Validation(measure, describe, pairs.digest())


if __name__ == "__main__":
    cli.run(train_embedder, TrainEmbedderOptions, __doc__)
