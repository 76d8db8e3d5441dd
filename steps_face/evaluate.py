#!/usr/bin/env python3
"""Evaluate the scores of one test set against the key in its trial list.

Inputs:
  SCORES      <model> <segment> <score>, exactly the pairs of the trials, in any order
  TRIALS      <model> <segment> target|nontarget; without the third column there is no key, and only counts
              are written
Output:
  OUTPUT_DIR/<NAME>.json  counts, equal error rate (0..1), min and act DCF (normalised, no unit) per prior
                          with the costs and the normalisation used, and the histogram of the scores

The act DCF takes scores as natural log-likelihood ratios: without calibration it says little.

Example:
  steps_face/evaluate.py --scores exp/scores/r100/max/sre19_test_scores --trials data/sre19_test/trials \\
    --name sre19_test --system r100/max --priors "0.05 0.01 0.005 0.001" --output-dir exp/results/r100/max
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any


def evaluate(scores: Path, trials: Path, name: str, system: str, priors: str, output_dir: Path) -> dict[str, Any]:
    """See the top of this file. Returns what was written.

    Raises ScoringError when scores and trials are not the same pairs, when target or non-target trials are
    missing, or for a prior that is no number between 0 and 1; DataError for malformed lists.
    """
    import json

    import numpy as np

    from vidperson import metrics
    from vidperson.errors import ScoringError
    from vidperson.io.atomic import atomic_write
    from vidperson.io.lists import read_scores, read_trials

    if name == "results" or not name or "/" in name:
        raise ScoringError(f"a set cannot be evaluated under the name '{name}'; it names the file of its results")
    try:
        operating_points = [float(prior) for prior in priors.split()]
    except ValueError:
        raise ScoringError(f"expected priors as numbers with spaces between, found '{priors}'") from None
    if not operating_points:
        raise ScoringError("expected at least one prior, found none")
    for prior in operating_points:
        metrics.check_prior(prior)

    trial_list = read_trials(trials)
    table = read_scores(scores)
    pairs = list(zip(trial_list.models, trial_list.segments, strict=True))
    missing = [pair for pair in pairs if pair not in table]
    if missing:
        raise ScoringError(
            f"{len(missing)} of {len(pairs)} trials of {trials} have no score in {scores}: {_first(missing)}"
        )
    if len(table) > len(pairs):
        surplus = sorted(table.keys() - set(pairs))
        raise ScoringError(
            f"{len(surplus)} of {len(table)} scores of {scores} are no trial of {trials}: {_first(surplus)}"
        )

    result: dict[str, Any] = {"name": name, "system": system, "has_key": trial_list.is_target is not None}
    result["num_trials"] = len(pairs)
    if trial_list.is_target is None:
        logging.info("%s has no key (third column target|nontarget): nothing to evaluate", trials)
    else:
        values = np.array([table[pair] for pair in pairs], dtype=np.float64)
        is_target = np.array(trial_list.is_target, dtype=bool)
        targets, nontargets = values[is_target], values[~is_target]
        if not len(targets) or not len(nontargets):
            raise ScoringError(
                f"{trials}: expected target and nontarget trials, found {len(targets)} and {len(nontargets)}"
            )
        curve = metrics.roc(targets, nontargets)
        low, high = values.min(), values.max()
        margin = 0.5 if high - low < 1e-6 * max(1.0, abs(low), abs(high)) else 0.0
        edges = np.linspace(low - margin, high + margin, 61)
        result |= {
            "num_targets": len(targets),
            "num_nontargets": len(nontargets),
            "eer": metrics.eer(curve),
            "c_miss": metrics.C_MISS,
            "c_fa": metrics.C_FA,
            "normalisation": metrics.NORMALISATION,
            "dcf": [
                {
                    "prior": prior,
                    "threshold": metrics.bayes_threshold(prior),
                    "min": metrics.min_dcf(curve, prior),
                    "act": metrics.act_dcf(curve, prior),
                }
                for prior in operating_points
            ],
            "histogram": {
                "edges": edges.tolist(),
                "targets": np.histogram(targets, edges)[0].tolist(),
                "nontargets": np.histogram(nontargets, edges)[0].tolist(),
            },
        }
    with atomic_write(output_dir / f"{name}.json") as stream:
        stream.write(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return result


def _first(pairs: list[tuple[str, str]]) -> str:
    return ", ".join(" ".join(pair) for pair in pairs[:3]) + (", ..." if len(pairs) > 3 else "")


if __name__ == "__main__":
    from vidperson import cli

    parser = cli.parser(__doc__)
    parser.add_argument("--scores", type=Path, required=True, help="score file")
    parser.add_argument("--trials", type=Path, required=True, help="trial list with the key")
    parser.add_argument("--name", required=True, help="name of the test set")
    parser.add_argument("--system", required=True, help="what made the scores, e.g. network/back-end")
    parser.add_argument("--priors", default="0.05 0.01 0.005 0.001", help="target priors of the detection costs")
    parser.add_argument("--output-dir", type=Path, required=True, help="results folder")
    cli.main(evaluate, parser.parse_args())
