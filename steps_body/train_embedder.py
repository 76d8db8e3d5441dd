#!/usr/bin/env python3
"""Train a body embedding network, and export the best epoch's with a model card.

Inputs:
  TRAIN_DATA  one or more of: data folder of the recipe, of which stage 2 has cut out the persons
              (utt2spk tells who they are; segments that are not in it are left out);
              folder or tar of images named as in Market-1501, <person>_c<camera>..., of which -1
              and 0000 are left out; folder or tar of <person>/<image>, or <person>/c<camera>_...
              Each image is one person as a whole. Persons of different sources are different ones
  UNLABELLED  optional: more of these, or any folder or tar of images, to imitate the teachers on
  TEACHER     optional: folders of installed body networks that the new one learns to imitate, on
              the same crops
  VALID_DATA  optional: like TRAIN_DATA; each image searches all others, without those of its
              person by its own camera. The epoch with the highest mAP is kept. Or HELD_OUT of the
              persons of TRAIN_DATA take its place
  TEST_DATA   optional: likewise. It chooses nothing: only the exported network is measured on it,
              for its card
Outputs, in OUTPUT_DIR, the last part of which is the network's name:
  <name>.onnx, <name>.yaml  network and card of the best epoch, for stage 0 to install
  best.pt, last.pt          weights of that epoch; all that a run resumes from, bit for bit
  log.jsonl, curves.png     losses, rank-1, mAP and mINP; also for TensorBoard where it is installed

Example:
  python steps_body/train_embedder.py --train-data market/bounding_box_train \\
      --output-dir exp/body_train/osnet --architecture osnet_x0_25 --held-out 75
Several GPUs:
  python -m torch.distributed.run --standalone --nproc-per-node 4 steps_body/train_embedder.py \\
      --device cuda ...
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidperson import cli
from vidperson.training import command
from vidperson.training.command import ReidOptions, TaughtOptions


@dataclass(frozen=True, kw_only=True)
class BodyTrainingOptions(TaughtOptions):
    """Persons may be named, or not, where there are teachers."""

    train_data: list[str] = cli.option((), "persons to learn, see above")
    unlabelled: list[str] = cli.option((), "persons without names, to imitate the teachers on")
    items_dir: str = cli.option("exp/body_det/given", "what stage 2 cut out, a folder per data folder")
    pretrained: str = cli.option("", "file of a backbone's weights learnt on ImageNet to start from")


@dataclass(frozen=True)
class ValidationOptions:
    """What the epochs, and what the network that is kept, are measured on."""

    valid_data: list[str] = cli.option((), "persons to choose the epoch by")
    held_out: int = cli.option(0, "persons of the training data to do this by instead", convert=cli.whole(0))
    test_data: list[str] = cli.option((), "other persons to measure the chosen network on")


@dataclass(frozen=True)
class TrainEmbedderOptions:
    """The options of this step."""

    training: BodyTrainingOptions = cli.group(BodyTrainingOptions)
    architecture: str = cli.option("osnet_x0_25", "network to train")
    augment: str = cli.option("mirror=0.5 pad=1 erase=0.5", "changes and how often each is made, 0..1")
    batch_size: int = cli.option(64, "crops of known persons per step, all GPUs together", convert=cli.whole(1))
    unlabelled_batch: int = cli.option(32, "crops of unknown persons per step", convert=cli.whole(1))
    mirror: str = cli.option("sum", "what the card says of mirror images", choices=("none", "sum"))
    reid: ReidOptions = cli.group(ReidOptions)
    validation: ValidationOptions = cli.group(ValidationOptions)


def train_embedder(options: TrainEmbedderOptions) -> dict[str, Any]:
    """See the top of this file. Returns the figures of the exported network ({} without persons to measure it on).

    Raises VidPersonError for data, settings and networks that are wrong, and for a loss that is not finite.
    """
    command.begin(options.training.threads)

    from vidperson.body.training_embedder import BodyRecipe, embedder_card, plan_embedder, read_data
    from vidperson.report.plots import training_curves
    from vidperson.training.loop import join_world

    training, measured = options.training, options.validation
    pictures = options.architecture, options.augment, options.batch_size, options.unlabelled_batch, options.mirror
    recipe = BodyRecipe(*pictures, training.pretrained, options.reid)
    learnt = training.train_data, training.unlabelled
    data = read_data(*learnt, measured.valid_data, measured.test_data, measured.held_out, training.items_dir)
    card = embedder_card(recipe, training)
    with join_world(training.device) as world:
        plan = plan_embedder(recipe, card, training, data, measure, world)
        return command.run_plan(plan, training, world, training_curves)


def measure(embeddings: NDArray[np.float32], persons: Sequence[str], cameras: Sequence[str]) -> dict[str, Any]:
    """Figures of (N, D) embeddings; see :func:`~vidperson.metrics.reidentification.across_cameras`."""
    from vidperson.metrics.reidentification import across_cameras

    found = across_cameras(embeddings, persons, cameras)
    text = "%d queries: rank-1 %.3f, mAP %.3f, mINP %.3f"
    logging.info(text, found.queries, found.rank1, found.map, found.minp)
    return dataclasses.asdict(found)


if __name__ == "__main__":
    cli.run(train_embedder, TrainEmbedderOptions, __doc__)
