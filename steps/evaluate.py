#!/usr/bin/env python3
"""Evaluate the scores of all systems on all test sets against the keys of their trial lists.

Inputs:
  SCORES_DIR/<system>/<test set>_scores
      <model> <segment> <score>, exactly the pairs of the trials, in any order. Scores that
      steps/score.py, calibrate.py and fuse.py would make again with these options are refused
  TEST_DATA/trials
      <model> <segment> target|nontarget; without the third column there is no key, and only
      counts are written
  TEST_DATA/trial_partitions
      optional, <model> <segment> <partition>: parts of equal weight in the primary cost
Outputs:
  OUTPUT_DIR/<system>/<test set>.json
      what made the scores; counts; EER on the ROC's convex hull, read off the ROC itself and at
      its nearest point, precision-recall break-even (0..1); Cllr and its minimum (bits); min and
      act DCF (normalised, no unit) per prior and as NIST's primary cost, with the costs and the
      normalisation used; 95 % intervals of EER and min DCF, by the bootstrap over persons; min and
      act DCF over the prior's log odds; points of the DET curve; the histogram of the scores

The act DCF and Cllr take scores as natural log-likelihood ratios: without calibration they say
little. A word of PAIRS holds the options of steps/score.py that describe one pair of sets.

Example:
  pair="--modality face --embed-dir exp/face_embed/arcface_tiny"
  pair+=" --enroll-parts 'demo_dev_enroll_ref demo_dev_enroll_facedet'"
  pair+=" --enroll-data data/demo_dev_enroll --items-dir exp/face_det/retinaface_tiny"
  pair+=" --test-part demo_dev_test --test-data data/demo_dev_test"
  steps/evaluate.py --pairs "$pair" --scores-dir exp/scores --embedders arcface_tiny \\
    --test-sets demo_dev_test --backends max --output-dir exp/results/demo
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps.calibrate import MODEL, TrainOptions, plan_calibrations
from steps.fuse import plan_fusions
from steps.qualities import plan_quality
from steps.score import PairOptions, SystemOptions, check_systems, plan_scores
from vidperson import cli

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidperson.backends.systems import System
    from vidperson.io.lists import Trials
    from vidperson.io.planned import Planned

MOST_LINES = 12


@dataclass(frozen=True)
class CostOptions:
    """What errors cost."""

    priors: str = cli.option("0.05 0.01 0.005 0.001", "target priors of the detection costs")
    c_miss: float = cli.option(1.0, "cost of a miss")
    c_fa: float = cli.option(1.0, "cost of a false alarm")

    def operating_points(self) -> list[float]:
        """The priors, checked. Raises ScoringError for priors and costs that cannot be."""
        from vidperson import metrics
        from vidperson.errors import ScoringError

        try:
            points = [float(prior) for prior in self.priors.split()]
        except ValueError:
            raise ScoringError(f"expected priors as numbers with spaces between, found '{self.priors}'") from None
        if not points:
            raise ScoringError("expected at least one prior, found none")
        for prior in points:
            metrics.check_prior(prior)
        metrics.check_costs(self.c_miss, self.c_fa)
        return points


@dataclass(frozen=True)
class EvaluateOptions:
    pairs: list[str] = cli.option(help="a word per pair of sets and modality: its options as steps/score.py takes them")
    output_dir: Path = cli.option(help="results folder")
    systems: SystemOptions = cli.group(SystemOptions)
    costs: CostOptions = cli.group(CostOptions)


def evaluate(options: EvaluateOptions) -> None:
    """See the top of this file.

    Raises ScoringError for systems that cannot be, for scores of other options or inputs, when
    scores, trials and partitions are not the same pairs, when target or non-target trials are
    missing, or for priors and costs that cannot be; DataError for malformed lists. Nothing is written
    where the scores are not those of the options.
    """
    from vidperson.io.record import RECORD

    check_systems(options.systems)
    options.costs.operating_points()
    pairs = read_pairs(options.pairs)
    refuse_other_scores(options.systems, pairs)
    # Until the report is made, a record would tell of other results.
    (options.output_dir / RECORD).unlink(missing_ok=True)
    for test_set, data in {pair.test_set: pair.test_data for pair in pairs}.items():
        partitions = data / "trial_partitions"
        for system in options.systems.systems():
            evaluate_scores(
                options.systems.scores(system, test_set),
                data / "trials",
                options.output_dir / system.folder / f"{test_set}.json",
                about(system, pairs),
                options.costs,
                options.systems.primary_cost,
                partitions if partitions.is_file() else None,
            )


def read_pairs(words: Sequence[str]) -> list[PairOptions]:
    """Pairs of sets from their options. Leaves the process with status 2 for wrong ones."""
    import shlex

    return [cli.parse(PairOptions, None, shlex.split(word)) for word in words]


def about(system: System, pairs: Sequence[PairOptions]) -> dict[str, str | None]:
    """What results and instructive trials say of a system."""
    from vidperson.backends.systems import FUSIONS

    modalities = {pair.embedder: pair.modality for pair in pairs}
    embedders = list(modalities) if system.backend in FUSIONS.values() else [system.embedder]
    return {
        "modality": " + ".join(dict.fromkeys(modalities[embedder] for embedder in embedders)),
        "system": " + ".join(embedders),
        "backend": system.backend,
        "submean_set": system.submean_set or None,
        "snorm_cohort": system.snorm_cohort or None,
        "calibrated_on": system.calibrated_on or None,
        "quality_measures": " ".join(system.quality) or None,
    }


def refuse_other_scores(options: SystemOptions, pairs: Sequence[PairOptions]) -> None:
    """Raises ScoringError, with what differs, unless stage 4 would keep all of these scores."""
    from vidperson.errors import ScoringError

    cure = "these are not the scores of these options; run ./run_004_score.sh with the same options first"
    try:
        planned = [one for pair in pairs for one in plan_scores(pair, options).values()]
        planned += [plan_quality(pair, options) for pair in pairs]
        keys = [pair.trials for pair in pairs if pair.test_set == options.calibration_set]
        train = TrainOptions(keys[0] if keys else Path())
        plans = list(plan_calibrations(options, train).values()) if keys else []
        plans += plan_fusions(options, train).values() if options.fusion_systems else []
        planned += [one for plan in plans for test_set, one in plan.items() if test_set != MODEL]
    except ScoringError as error:
        raise ScoringError(f"{error}\n{cure}") from None
    refuse_unplanned(planned, cure)


def refuse_unplanned(planned: Sequence[Planned], cure: str) -> None:
    """Raises ScoringError, with what differs and the cure, where a file would be made again."""
    from vidperson.errors import ScoringError
    from vidperson.io.planned import reasons

    lines = reasons(planned)
    if lines:
        more = ["..."] if len(lines) > MOST_LINES else []
        raise ScoringError("\n".join([*lines[:MOST_LINES], *more, cure]))


def evaluate_scores(
    scores: Path,
    trials: Path,
    output: Path,
    about: Mapping[str, str | None],
    costs: CostOptions,
    primary: str = "sre19",
    partitions: Path | None = None,
) -> dict[str, Any]:
    """Evaluate one list of scores; ``output`` is called as the test set. Returns what was written.

    Raises ScoringError and DataError as :func:`evaluate`; nothing is written then.
    """
    import json

    from vidperson import metrics
    from vidperson.errors import ScoringError
    from vidperson.io.atomic import atomic_write
    from vidperson.io.lists import read_partitions, read_scores_of, read_trials, rows_in_order

    name = output.name.removesuffix(".json")
    if name in ("", "results"):
        raise ScoringError(f"a set cannot be evaluated under the name '{name}'; it names the file of its results")
    costs.operating_points()
    metrics.primary_priors(primary)
    trial_list = read_trials(trials)
    values = read_scores_of(scores, trial_list)
    result: dict[str, Any] = {"name": name, **about}
    result |= {"has_key": trial_list.targets is not None, "num_trials": len(trial_list)}
    if trial_list.targets is None:
        logging.info("%s has no key (third column target|nontarget): nothing to evaluate", trials)
    else:
        labels, names = None, []
        if partitions is not None:
            listed, ids = read_partitions(partitions)
            labels, names = ids.index[rows_in_order(listed, trial_list)], ids.names
        is_target = trial_list.key()
        primary_cost = {
            "definition": primary,
            "partitions": sorted(names),
            **_primary_cost(values, is_target, labels, primary, costs),
        }
        result |= _figures(values[is_target], values[~is_target], costs) | {"primary": primary_cost}
        result["interval"] = _intervals(values, trial_list, costs)
    with atomic_write(output) as stream:
        stream.write(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return result


def _intervals(values: NDArray[Any], trials: Trials, costs: CostOptions) -> Mapping[str, object] | None:
    """The 95 % intervals; None where there are too few persons, or too many trials."""
    import numpy as np

    from vidperson.metrics.trials import MOST_TRIALS, persons_of, trial_intervals

    if len(trials) > MOST_TRIALS:
        return None
    number = {name: at for at, name in enumerate(dict.fromkeys([*trials.model_ids, *trials.segment_ids]))}
    models = np.array([number[name] for name in trials.model_ids])[trials.model_index]
    segments = np.array([number[name] for name in trials.segment_ids])[trials.segment_index]
    is_target = trials.key()
    persons = persons_of(models, segments, is_target)
    return trial_intervals(values, is_target, persons, costs.operating_points(), costs.c_miss, costs.c_fa)


def _primary_cost(
    values: NDArray[Any], is_target: NDArray[Any], labels: NDArray[Any] | None, primary: str, costs: CostOptions
) -> dict[str, Any]:
    """NIST's cost over the partitions that the labels tell."""
    from vidperson import metrics

    priors = metrics.primary_priors(primary)
    pair = {"c_miss": costs.c_miss, "c_fa": costs.c_fa}
    cost = metrics.primary_cost(values, is_target, priors, labels, **pair)
    return {
        "priors": list(priors),
        "thresholds": [metrics.bayes_threshold(prior, **pair) for prior in priors],
        "min": cost.min,
        "act": cost.act,
    }


def _figures(targets: NDArray[Any], nontargets: NDArray[Any], options: CostOptions) -> dict[str, Any]:
    """What the scores of target and non-target trials give, partitions aside."""
    import numpy as np

    from vidperson import metrics

    curve = metrics.roc(targets, nontargets)
    costs = {"c_miss": options.c_miss, "c_fa": options.c_fa}
    log_odds = np.linspace(-10, 10, 81)
    sweep = (1 / (1 + np.exp(-log_odds))).tolist()
    p_miss, p_fa = metrics.det_points(curve)
    low, high = min(targets.min(), nontargets.min()), max(targets.max(), nontargets.max())
    margin = 0.5 if high - low < 1e-6 * max(1.0, abs(low), abs(high)) else 0.0
    edges = np.linspace(low - margin, high + margin, 61)
    return {
        "num_targets": len(targets),
        "num_nontargets": len(nontargets),
        "eer": metrics.eer(curve),
        "eer_simple": metrics.eer_simple(curve),
        "eer_point": metrics.eer_point(curve),
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
            for prior in options.operating_points()
        ],
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


if __name__ == "__main__":
    cli.run(evaluate, EvaluateOptions, __doc__)
