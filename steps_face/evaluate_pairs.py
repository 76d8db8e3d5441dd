#!/usr/bin/env python3
"""Measure a face network on a list of image pairs: same person or not?

Inputs:
  MODEL            folder of an installed face network
  PICTURES         folder or tar of aligned 112 x 112 faces
  PAIRS            LFW's pairs file (View 1 or 2), or lines `<image> <image> target|nontarget`;
                   an image is named by its folder and file name without ending, e.g.
                   Al_Gore/Al_Gore_0001
  THRESHOLD_PAIRS  another such list, of which the threshold of `accuracy` is learnt (LFW View 1:
                   DevTrain)
  CARD             a .yaml file, optional: its `calibration` is learnt of every two images of
                   THRESHOLD_PAIRS, or of PAIRS without them, and written into it
Output, as JSON to OUTPUT if it is given, and in words to the log:
  eer, tar_at_far (true accept rate per false accept rate), ten_fold_accuracy and ten_fold_std
  (threshold of each fold from the nine others), accuracy and threshold (with THRESHOLD_PAIRS);
  interval (95 % intervals of eer and accuracies: bootstrap over persons, who are the images'
  folders) and num_persons, both left out where the folders are not persons; shares 0..1,
  thresholds are cosines.

Example:
  python steps_face/evaluate_pairs.py --model exp/face_models/mobilefacenet_casia_pytorch \\
      --pictures lfw_view1_aligned.tar --pairs lfw_pairsDevTest.txt \\
      --threshold-pairs lfw_pairsDevTrain.txt
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps.options import EngineOptions
from vidperson import cli

if TYPE_CHECKING:
    from vidperson.face.pairs import Embed
    from vidperson.io.pairs import Pairs
    from vidperson.io.pictures import Pictures
    from vidperson.types import Float, Image


@dataclass(frozen=True)
class PairsOptions:
    """The options of this step."""

    model: str = cli.option(help="folder of the installed face network")
    pictures: str = cli.option(help="folder or tar of aligned faces")
    pairs: str = cli.option(help="list of pairs to measure on")
    threshold_pairs: str = cli.option("", "list of pairs to learn the threshold of")
    card: str = cli.option("", "model card to write the network's calibration into")
    output: str = cli.option("", "JSON file to write")
    embed_batch: int = cli.option(16, "crops per call of the network", convert=cli.whole(1))
    engine: EngineOptions = cli.group(EngineOptions)


def measure_pairs(
    embed: Callable[[Image], Float],
    pictures: Pictures,
    pairs: Pairs,
    threshold_pairs: Pairs | None,
    batch: int,
    with_intervals: bool = False,
) -> dict[str, Any]:
    """What the step writes; see the top of this file. with_intervals: they take a second.

    Raises as :func:`~vidperson.face.pairs.pair_scores`, and ScoringError.
    """
    from vidperson.face.pairs import pair_scores
    from vidperson.metrics.pairs import pair_figures

    scores = pair_scores(embed, pictures, pairs, batch)
    others = None
    if threshold_pairs is not None:
        others = pair_scores(embed, pictures, threshold_pairs, batch), threshold_pairs.is_target
    persons = pairs.persons() if with_intervals else None
    if with_intervals and persons is None:
        logging.warning("the folders of the pairs' images are not persons (one folder each): no intervals")
    return pair_figures(scores, pairs.is_target, pairs.folds, others, persons)


def evaluate_pairs(options: PairsOptions) -> dict[str, Any]:
    """See the top of this file. Returns what was written.

    Raises VidPersonError for lists, images and models that are wrong.
    """
    import json

    from vidperson.face.embedder import FaceEmbedder
    from vidperson.io.atomic import atomic_write
    from vidperson.io.pairs import read_pairs
    from vidperson.io.pictures import list_pictures
    from vidperson.metrics.pairs import describe
    from vidperson.networks.install import installed_model
    from vidperson.networks.opening import open_network

    pairs = read_pairs(options.pairs)
    threshold_pairs = read_pairs(options.threshold_pairs) if options.threshold_pairs else None
    installed, engine, batch = installed_model(options.model), options.engine, options.embed_batch
    network = open_network(installed, engine.engine, engine.device, engine.threads, engine.precision, batch)
    embed = FaceEmbedder(network, installed.card).embed
    pictures = list_pictures(options.pictures)
    figures = measure_pairs(embed, pictures, pairs, threshold_pairs, batch, with_intervals=True)
    logging.info("%s: %s", installed.card.name, describe(figures))
    if options.card:
        name = options.threshold_pairs or options.pairs
        _calibrate(Path(options.card), embed, pictures, threshold_pairs or pairs, batch, name)
    if options.output:
        with atomic_write(options.output) as stream:
            stream.write(json.dumps({"network": installed.card.name, **figures}, indent=1) + "\n")
    return figures


def _calibrate(card: Path, embed: Embed, pictures: Pictures, pairs: Pairs, batch: int, name: str) -> None:
    """Write the calibration of every two images of a list into a card."""
    from vidperson.backends.calibration import calibration_of_scores
    from vidperson.face.pairs import cross_scores
    from vidperson.networks.card import write_calibration

    measured_on = f"every two images of {Path(name).name}"
    found = calibration_of_scores(*cross_scores(embed, pictures, pairs, batch), measured_on)
    write_calibration(card, found)
    logging.info("%s: log-likelihood ratio = %g * cosine + %g, %s", card, found.slope, found.offset, measured_on)


if __name__ == "__main__":
    cli.run(evaluate_pairs, PairsOptions, __doc__)
