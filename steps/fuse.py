#!/usr/bin/env python3
"""Fuse the scores of several systems, of any modality: choose and train on one set, apply to several.

Inputs:
  SYSTEM/<set>_scores  per system <model> <segment> <score>; all systems have the same pairs, in any order
  TRAIN_TRIALS         <model> <segment> target|nontarget, exactly the pairs of the training set's scores
Outputs:
  OUTPUT_DIR/<set>_scores  <model> <segment> <natural log-likelihood ratio>, in the order of the first system chosen
  OUTPUT_DIR/fusion.json   systems, weights and offset, how they were trained, and the costs on the way of the
                           selection (docs/formats.md)
Nothing is written unless all inputs are in order.

The first system is the one with the lowest actual cost after calibration; then the one is added that lowers the
fusion's cost most, until none does or MAX_SYSTEMS are reached. The cost is C_primary of the evaluation PRIMARY: the
mean of the actual DCF at its priors, over all trials as one partition.

Example:
  steps/fuse.py --systems exp/scores/r100/max exp/scores/r50/median exp/scores/ecapa/cosine \\
    --train-set sre19_dev_test --train-trials data/sre19_dev_test/trials --sets sre19_dev_test sre19_eval_test \\
    --output-dir exp/scores/fusion/face_voice
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def fuse_scores(
    systems: Sequence[str],
    train_set: str,
    train_trials: Path,
    sets: Sequence[str],
    output_dir: Path,
    max_systems: int = 5,
    primary: str = "sre19",
    prior: float = 0.05,
    l2: float = 1e-5,
) -> None:
    """See the top of this file.

    Raises ScoringError when scores and trials, or the scores of two systems, are not the same pairs, when the
    trials have no targets, no non-targets or no key, a system is named twice, or for an unknown primary cost; DataError
    for malformed lists.
    """
    import json

    import numpy as np

    from vidperson import metrics
    from vidperson.backends.fusion import select_systems
    from vidperson.io.atomic import atomic_write
    from vidperson.io.lists import as_scores, read_key, read_scores, read_scores_of, write_scores

    eval_priors = metrics.primary_priors(primary)

    def cost(targets: ArrayLike, nontargets: ArrayLike) -> float:
        curve = metrics.roc(targets, nontargets)
        return float(np.mean([metrics.act_dcf(curve, eval_prior) for eval_prior in eval_priors]))

    key, is_target = read_key(train_trials)
    train = [read_scores_of(Path(system) / f"{train_set}_scores", key) for system in systems]
    choices = select_systems(
        np.column_stack(train),
        is_target,
        systems,
        cost,
        max_systems,
        prior,
        l2,
        trained_on=train_set,
    )
    model = choices[-1].model
    fused = {}
    for name in dict.fromkeys(sets):
        files = [Path(system) / f"{name}_scores" for system in model.systems]
        pairs = read_scores(files[0])
        others = [read_scores_of(file, pairs) for file in files[1:]]
        fused[name] = pairs, as_scores(model.apply(np.column_stack([pairs.values, *others])), pairs)
    for name, (pairs, ratios) in fused.items():
        write_scores(output_dir / f"{name}_scores", pairs, ratios)
    steps = [{"systems": choice.model.systems, "act_dcf": choice.cost} for choice in choices]
    content = model.as_dict() | {"eval_priors": eval_priors, "selection": steps}
    with atomic_write(output_dir / "fusion.json") as stream:
        stream.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    for choice in choices:
        logging.info("actual cost (%s) %.4f on %s: %s", primary, choice.cost, train_set, choice.model.systems)


if __name__ == "__main__":
    from vidperson import cli

    parser = cli.parser(__doc__)
    parser.add_argument("--systems", nargs="+", required=True, help="score folders of the systems")
    parser.add_argument("--train-set", required=True, help="test set to choose and train on")
    parser.add_argument("--train-trials", type=Path, required=True, help="its trial list with the key")
    parser.add_argument("--sets", nargs="+", required=True, help="test sets to fuse")
    parser.add_argument("--max-systems", type=cli.whole(1), default=5, help="most systems in the fusion")
    parser.add_argument("--primary", default="sre19", help="evaluation whose cost selects: sre19 or sre21")
    parser.add_argument("--prior", type=float, default=0.05, help="weight of the targets in training, 0..1")
    parser.add_argument("--l2", type=float, default=1e-5, help="penalty of the squared weights")
    parser.add_argument("--output-dir", type=Path, required=True, help="folder to write")
    cli.main(fuse_scores, parser.parse_args())
