#!/usr/bin/env python3
"""Calibrate the scores of all systems: train on one test set, apply to all. Any modality will do.

Inputs:
  SCORES_DIR/<embedder>/<system>/<test set>_scores
      <model> <segment> <score>, of each system that steps/score.py makes with the same options
  TRAIN_TRIALS
      <model> <segment> target|nontarget, exactly the pairs of the calibration set's scores
Outputs:
  SCORES_DIR/<embedder>/<system>_cal/<test set>_scores
      <model> <segment> <natural log-likelihood ratio>, in the order of the input
  SCORES_DIR/<embedder>/<system>_cal/calibration.json
      the weight and offset, and how they were trained (docs/formats.md)
Beside each is the record of how it was made. What is there, intact and of the same options and
inputs is kept. Nothing of a system is written unless all its inputs are in order.

Example:
  steps/calibrate.py --scores-dir exp/scores --embedders arcface_tiny --backends "max ahc" \\
    --test-sets "demo_dev_test demo_eval_test" --calibration-set demo_dev_test \\
    --train-trials data/demo_dev_test/trials
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps.score import RunOptions, SystemOptions, check_systems, to_make
from vidperson import cli

if TYPE_CHECKING:
    from vidperson.backends.calibration import LinearModel
    from vidperson.backends.systems import System
    from vidperson.io.planned import Planned


@dataclass(frozen=True)
class TrainOptions:
    """How scores are turned into log-likelihood ratios."""

    train_trials: Path = cli.option(help="trial list of the calibration set, with the key")
    prior: float = cli.option(0.05, "weight of the targets in training, 0..1")
    l2: float = cli.option(1e-5, "penalty of the squared weights")

    def words(self) -> list[str]:
        return ["--prior", f"{self.prior:g}", "--l2", f"{self.l2:g}"]


@dataclass(frozen=True)
class CalibrateOptions:
    train: TrainOptions = cli.group(TrainOptions)
    systems: SystemOptions = cli.group(SystemOptions)
    run: RunOptions = cli.group(RunOptions)


def calibrate(options: CalibrateOptions) -> None:
    """See the top of this file.

    Raises ScoringError for systems that cannot be, when scores and trials are not the same pairs,
    or the trials have no targets, no non-targets or no key; DataError for malformed or edited lists.
    """
    check_systems(options.systems)
    planned = plan_calibrations(options.systems, options.train)
    wanted = to_make([one for ours in planned.values() for one in ours.values()], options.run)
    for system, ours in planned.items():
        left = {test_set: one for test_set, one in ours.items() if one in wanted}
        if left:
            _calibrate_system(system, left, options)


MODEL = ""
"""Stands for the model, calibration.json or fusion.json, among the test sets of a plan."""


def plan_calibrations(options: SystemOptions, train: TrainOptions) -> dict[System, dict[str, Planned]]:
    """The calibrated scores of each system and test set, and the models as those of ``MODEL``.

    Raises ScoringError where there is no calibration set.
    """
    from vidperson.backends.systems import calibrated
    from vidperson.errors import ScoringError
    from vidperson.io.planned import Planned

    if not options.calibration_set:
        raise ScoringError("calibration_set: expected one of the test sets, found none")
    command = ["python", "steps/calibrate.py", "--calibration-set", options.calibration_set, *train.words()]
    planned = {}
    for system in options.uncalibrated():
        folder = options.folder(calibrated(system, options.calibration_set))
        trained = [train.train_trials, options.scores(system, options.calibration_set)]
        planned[system] = {MODEL: Planned(folder / "calibration.json", command, trained)}
        for test_set in options.test_sets.split():
            inputs = dict.fromkeys([*trained, options.scores(system, test_set)])
            planned[system][test_set] = Planned(folder / f"{test_set}_scores", command, list(inputs))
    return planned


def _calibrate_system(system: System, planned: Mapping[str, Planned], options: CalibrateOptions) -> None:
    from vidperson.backends.calibration import train_linear
    from vidperson.io.lists import as_scores, read_key, read_scores, read_scores_of
    from vidperson.io.record import checked

    systems, train = options.systems, options.train
    for one in planned.values():
        one.remove()
    key, is_target = read_key(train.train_trials)
    values = read_scores_of(checked(systems.scores(system, systems.calibration_set)), key)
    names = (str(systems.folder(system)),)
    model = train_linear(values, is_target, names, train.prior, train.l2, trained_on=systems.calibration_set)
    ratios = {}
    for test_set in planned.keys() - {MODEL}:
        pairs = read_scores(checked(systems.scores(system, test_set)))
        ratios[test_set] = pairs, as_scores(model.apply(pairs.values), pairs)
    write_ratios(planned, ratios, model, {})
    logging.info(
        "%s: log-likelihood ratio = %.6g * score %+.6g, from %d target and %d nontarget trials of %s",
        *(names[0], model.weights[0], model.offset, model.num_targets, model.num_nontargets, model.trained_on),
    )


def write_ratios(
    planned: Mapping[str, Planned], ratios: Mapping[str, tuple[Any, Any]], model: LinearModel, more: dict[str, Any]
) -> None:
    """Write what is planned: pairs and values of each test set, and the model with ``more``."""
    import json

    from vidperson.io.atomic import atomic_write
    from vidperson.io.lists import write_scores

    for test_set, one in planned.items():
        if test_set == MODEL:
            with atomic_write(one.target) as stream:
                stream.write(json.dumps(model.as_dict() | more, indent=1, ensure_ascii=False) + "\n")
        else:
            write_scores(one.target, *ratios[test_set])
        one.note()


if __name__ == "__main__":
    cli.run(calibrate, CalibrateOptions, __doc__)
