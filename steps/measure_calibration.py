#!/usr/bin/env python3
"""Learn how the cosines of a network become log-likelihood ratios, and write it into its card.

Inputs:
  SCORES   <model> <segment> <score>: cosines of its embeddings, such as those of the back-end max
  TRIALS   <model> <segment> target|nontarget, exactly these pairs; of sets that are no test sets
  CARD     a .yaml file, the card of the network
Output:
  CARD     with `calibration`: slope, offset, MEASURED_ON, and how many pairs there were. The other
           lines stay as they are

For faces steps_face/evaluate_pairs.py does the same from a list of image pairs.

Example:
  steps/measure_calibration.py --card vidperson/zoo/ecapa_tiny.yaml \\
    --scores exp/scores/ecapa_tiny/max/talking_test_scores --trials data/talking_test/trials \\
    --measured-on "UCLA, pairs of other sessions"
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from vidperson import cli


@dataclass(frozen=True)
class CalibrationOptions:
    """The options of this step."""

    scores: Path = cli.option(help="cosines of pairs")
    trials: Path = cli.option(help="the pairs, with the key")
    card: Path = cli.option(help="model card to write the calibration into")
    measured_on: str = cli.option(help="words that say which lists and persons these are")


def measure_calibration(options: CalibrationOptions) -> None:
    """See the top of this file.

    Raises DataError for malformed lists, ScoringError where scores and trials are of other pairs, lack targets or
    non-targets, or targets have no higher scores; ModelError where the card is none.
    """
    from vidperson.backends.calibration import calibration_of_scores
    from vidperson.io.lists import read_key, read_scores_of
    from vidperson.networks.card import write_calibration

    trials, is_target = read_key(options.trials)
    found = calibration_of_scores(read_scores_of(options.scores, trials), is_target, options.measured_on)
    write_calibration(options.card, found)
    logging.info("%s: log-likelihood ratio = %g * cosine + %g", options.card, found.slope, found.offset)


if __name__ == "__main__":
    cli.run(measure_calibration, CalibrationOptions, __doc__)
