#!/usr/bin/env python3
"""Calibrate the scores of a system: train on one set, apply to several. Scores of any modality will do.

Inputs:
  SCORES_DIR/<set>_scores  <model> <segment> <score>, for the training set and all sets
  TRAIN_TRIALS             <model> <segment> target|nontarget, exactly the pairs of the training set's scores
Outputs:
  OUTPUT_DIR/<set>_scores      <model> <segment> <natural log-likelihood ratio>, in the order of the input
  OUTPUT_DIR/calibration.json  the weight and offset, and how they were trained (docs/formats.md)
Nothing is written unless all inputs are in order.

Example:
  steps/calibrate.py --scores-dir exp/scores/r100/max --train-set sre19_dev_test \\
    --train-trials data/sre19_dev_test/trials --sets sre19_dev_test sre19_eval_test \\
    --output-dir exp/scores/r100/max_cal
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path


def calibrate_scores(
    scores_dir: Path,
    train_set: str,
    train_trials: Path,
    sets: Sequence[str],
    output_dir: Path,
    prior: float = 0.05,
    l2: float = 1e-5,
) -> None:
    """See the top of this file.

    Raises ScoringError when scores and trials are not the same pairs or the trials have no targets, no non-targets
    or no key; DataError for malformed lists.
    """
    import json

    from vidperson.backends.calibration import train_linear
    from vidperson.io.atomic import atomic_write
    from vidperson.io.lists import as_scores, read_key, read_scores, read_scores_of, write_scores

    key, is_target = read_key(train_trials)
    values = read_scores_of(scores_dir / f"{train_set}_scores", key)
    model = train_linear(values, is_target, (str(scores_dir),), prior, l2, trained_on=train_set)
    calibrated = {}
    for name in dict.fromkeys(sets):
        pairs = read_scores(scores_dir / f"{name}_scores")
        calibrated[name] = pairs, as_scores(model.apply(pairs.values), pairs)
    for name, (pairs, ratios) in calibrated.items():
        write_scores(output_dir / f"{name}_scores", pairs, ratios)
    with atomic_write(output_dir / "calibration.json") as stream:
        stream.write(json.dumps(model.as_dict(), indent=1, ensure_ascii=False) + "\n")
    logging.info(
        "%s: log-likelihood ratio = %.6g * score %+.6g, from %d target and %d nontarget trials of %s",
        output_dir,
        model.weights[0],
        model.offset,
        model.num_targets,
        model.num_nontargets,
        train_set,
    )


if __name__ == "__main__":
    from vidperson import cli

    parser = cli.parser(__doc__)
    parser.add_argument("--scores-dir", type=Path, required=True, help="folder of the scores")
    parser.add_argument("--train-set", required=True, help="test set to train on")
    parser.add_argument("--train-trials", type=Path, required=True, help="its trial list with the key")
    parser.add_argument("--sets", nargs="+", required=True, help="test sets to calibrate")
    parser.add_argument("--prior", type=float, default=0.05, help="weight of the targets in training, 0..1")
    parser.add_argument("--l2", type=float, default=1e-5, help="penalty of the squared weight")
    parser.add_argument("--output-dir", type=Path, required=True, help="folder to write")
    cli.main(calibrate_scores, parser.parse_args())
