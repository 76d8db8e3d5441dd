#!/usr/bin/env python3
"""Evaluate the scores of one test set against the key in its trial list.

Inputs:
  SCORES      <model> <segment> <score>, exactly the pairs of the trials, in any order
  TRIALS      <model> <segment> target|nontarget; without the third column there is no key, and only counts
              are written
  PARTITIONS  optional, <model> <segment> <partition>: what the primary cost averages over with equal weights
Output:
  OUTPUT_DIR/<NAME>.json  what made the scores; counts; EER on the ROC's convex hull and read off the ROC itself,
                          precision-recall break-even (0..1); Cllr and its minimum (bits); min and act DCF
                          (normalised, no unit) per prior and as NIST's primary cost, with the costs and the
                          normalisation used; min and act DCF over the prior's log odds; points of the DET curve;
                          the histogram of the scores

The act DCF and Cllr take scores as natural log-likelihood ratios: without calibration they say little.

Example:
  steps/evaluate.py --scores exp/scores/r100/max/sre19_test_scores --trials data/sre19_test/trials \\
    --name sre19_test --system r100 --backend max --priors "0.05 0.01 0.005 0.001" --output-dir exp/results/r100/max
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any


def evaluate(
    scores: Path,
    trials: Path,
    name: str,
    system: str,
    priors: str,
    output_dir: Path,
    backend: str | None = None,
    snorm_cohort: str | None = None,
    calibrated_on: str | None = None,
    primary: str = "sre19",
    partitions: Path | None = None,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
) -> dict[str, Any]:
    """See the top of this file. Returns what was written.

    Raises ScoringError when scores, trials and partitions are not the same pairs, when target or non-target trials
    are missing, for priors and costs that cannot be, or an unknown primary cost; DataError for malformed lists.
    """
    import json

    import numpy as np

    from vidperson import metrics
    from vidperson.errors import ScoringError
    from vidperson.io.atomic import atomic_write
    from vidperson.io.lists import read_partitions, read_scores_of, read_trials, rows_in_order

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
    metrics.check_costs(c_miss, c_fa)
    primary_priors = metrics.primary_priors(primary)

    trial_list = read_trials(trials)
    values = read_scores_of(scores, trial_list)

    result: dict[str, Any] = {"name": name, "system": system, "backend": backend, "snorm_cohort": snorm_cohort}
    result |= {"calibrated_on": calibrated_on, "has_key": trial_list.targets is not None}
    result["num_trials"] = len(trial_list)
    if trial_list.targets is None:
        logging.info("%s has no key (third column target|nontarget): nothing to evaluate", trials)
    else:
        is_target = trial_list.key()
        targets, nontargets = values[is_target], values[~is_target]
        labels, names = None, []
        if partitions is not None:
            listed, ids = read_partitions(partitions)
            labels = ids.index[rows_in_order(listed, trial_list)]
            names = ids.names
        curve = metrics.roc(targets, nontargets)
        costs = {"c_miss": c_miss, "c_fa": c_fa}
        primary_cost = metrics.primary_cost(values, is_target, primary_priors, labels, **costs)
        log_odds = np.linspace(-10, 10, 81)
        sweep = (1 / (1 + np.exp(-log_odds))).tolist()
        p_miss, p_fa = metrics.det_points(curve)
        low, high = values.min(), values.max()
        margin = 0.5 if high - low < 1e-6 * max(1.0, abs(low), abs(high)) else 0.0
        edges = np.linspace(low - margin, high + margin, 61)
        result |= {
            "num_targets": len(targets),
            "num_nontargets": len(nontargets),
            "eer": metrics.eer(curve),
            "eer_simple": metrics.eer_simple(curve),
            "prbep": metrics.precision_recall_break_even(curve),
            "cllr": metrics.cllr(curve),
            "min_cllr": metrics.min_cllr(curve),
            **costs,
            "normalisation": metrics.NORMALISATION,
            "dcf": [
                {
                    "prior": prior,
                    "threshold": metrics.bayes_threshold(prior, **costs),
                    "min": metrics.min_dcf(curve, prior, **costs),
                    "act": metrics.act_dcf(curve, prior, **costs),
                }
                for prior in operating_points
            ],
            "primary": {
                "definition": primary,
                "priors": list(primary_priors),
                "thresholds": [metrics.bayes_threshold(prior, **costs) for prior in primary_priors],
                "partitions": sorted(names),
                "min": primary_cost.min,
                "act": primary_cost.act,
            },
            "dcf_over_log_odds": {
                "log_odds": log_odds.tolist(),
                "min": [metrics.min_dcf(curve, prior, **costs) for prior in sweep],
                "act": [metrics.act_dcf(curve, prior, **costs) for prior in sweep],
            },
            "det": {"p_miss": p_miss.tolist(), "p_fa": p_fa.tolist()},
            "histogram": {
                "edges": edges.tolist(),
                "targets": np.histogram(targets, edges)[0].tolist(),
                "nontargets": np.histogram(nontargets, edges)[0].tolist(),
            },
        }
    with atomic_write(output_dir / f"{name}.json") as stream:
        stream.write(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return result


if __name__ == "__main__":
    from vidperson import cli

    parser = cli.parser(__doc__)
    parser.add_argument("--scores", type=Path, required=True, help="score file")
    parser.add_argument("--trials", type=Path, required=True, help="trial list with the key")
    parser.add_argument("--name", required=True, help="name of the test set")
    parser.add_argument("--system", required=True, help="the network that made the scores")
    parser.add_argument("--backend", help="the back-end that made them, or fusion")
    parser.add_argument("--snorm-cohort", help="set that normalised them")
    parser.add_argument("--calibrated-on", help="set that their calibration was trained on")
    parser.add_argument("--priors", default="0.05 0.01 0.005 0.001", help="target priors of the detection costs")
    parser.add_argument("--primary", default="sre19", help="definition of the primary cost: sre19 or sre21")
    parser.add_argument("--partitions", type=Path, help="partition of each trial, for the primary cost")
    parser.add_argument("--c-miss", type=float, default=1.0, help="cost of a miss")
    parser.add_argument("--c-fa", type=float, default=1.0, help="cost of a false alarm")
    parser.add_argument("--output-dir", type=Path, required=True, help="results folder")
    cli.main(evaluate, parser.parse_args())
