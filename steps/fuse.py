#!/usr/bin/env python3
"""Fuse the scores of several systems, of any modality: choose and train on one test set.

Inputs:
  <system>/<test set>_scores
      per system <model> <segment> <score>; all systems have the same pairs, in any order
  TRAIN_TRIALS
      <model> <segment> target|nontarget, exactly the pairs of the calibration set's scores
Outputs:
  SCORES_DIR/fusion/<experiment>/<test set>_scores
      <model> <segment> <natural log-likelihood ratio>, in the order of the first system chosen
  SCORES_DIR/fusion/<experiment>/fusion.json
      systems, weights and offset, how they were trained, and the costs on the way of the selection
      (docs/formats.md)
Beside each is the record of how it was made. What is there, intact and of the same options and
inputs is kept. Nothing is written unless all inputs are in order.

A system to fuse is named `max` (that system of each embedder), `<embedder>/<system>` (a folder of
SCORES_DIR), or by the path of another folder, such as that of another program's scores.

The first system is the one with the lowest actual cost after calibration. Then the one is added
that lowers the fusion's cost most, until none does or MAX_SYSTEMS are reached. The cost is
C_primary of the evaluation PRIMARY_COST: the mean of the actual DCF at its priors, over all trials
as one partition.

Example:
  steps/fuse.py --scores-dir exp/scores --experiment demo --embedders arcface_tiny \\
    --backends "max ahc" --fusion-systems "max ahc" --calibration-set demo_dev_test \\
    --test-sets "demo_dev_test demo_eval_test" --train-trials data/demo_dev_test/trials
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from steps.calibrate import MODEL, TrainOptions, write_ratios
from steps.score import RunOptions, SystemOptions, check_systems, to_make
from vidperson import cli

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from vidperson.backends.fusion import Choice
    from vidperson.io.planned import Planned


@dataclass(frozen=True)
class FuseOptions:
    train: TrainOptions = cli.group(TrainOptions)
    systems: SystemOptions = cli.group(SystemOptions)
    run: RunOptions = cli.group(RunOptions)


def fuse(options: FuseOptions) -> None:
    """See the top of this file.

    Raises ScoringError for systems that cannot be, when scores and trials, or the scores of two
    systems, are not the same pairs, when the trials have no targets, no non-targets or no key;
    DataError for malformed or edited lists.
    """
    import numpy as np

    from vidperson.io.lists import as_scores, read_scores, read_scores_of
    from vidperson.io.record import checked

    check_systems(options.systems)
    planned = plan_fusion(options.systems, options.train)
    wanted = to_make(list(planned.values()), options.run)
    left = {test_set: one for test_set, one in planned.items() if one in wanted}
    if not left:
        return
    for one in left.values():
        one.remove()
    choices = choose(options.systems, options.train)
    model = choices[-1].model
    ratios = {}
    for test_set in left.keys() - {MODEL}:
        files = [checked(Path(system) / f"{test_set}_scores") for system in model.systems]
        pairs = read_scores(files[0])
        others = [read_scores_of(file, pairs) for file in files[1:]]
        ratios[test_set] = pairs, as_scores(model.apply(np.column_stack([pairs.values, *others])), pairs)
    write_ratios(left, ratios, model, _selection(choices, options.systems.primary_cost))
    for choice in choices:
        logging.info(
            "actual cost (%s) %.4f on %s: %s",
            *(options.systems.primary_cost, choice.cost, model.trained_on, choice.model.systems),
        )


def plan_fusion(options: SystemOptions, train: TrainOptions) -> dict[str, Planned]:
    """The fused scores of each test set, and the model as that of ``MODEL``.

    Raises ScoringError where nothing is to be fused, or the experiment has no name.
    """
    from vidperson.errors import ScoringError
    from vidperson.io.planned import Planned

    folders = options.fused()
    if not folders:
        raise ScoringError("fusion_systems: expected the systems to fuse, found none")
    name = options.experiment
    if not name or "/" in name or name in (".", ".."):
        raise ScoringError(f"experiment: expected the name of a folder for the fusion, found '{name}'")
    target = options.folder(options.systems()[-1])
    command = ["python", "steps/fuse.py", "--systems", *map(str, folders)]
    command += ["--calibration-set", options.calibration_set, *train.words()]
    command += ["--max-systems", str(options.max_systems), "--primary-cost", options.primary_cost]
    trained = [train.train_trials, *(folder / f"{options.calibration_set}_scores" for folder in folders)]
    planned = {MODEL: Planned(target / "fusion.json", command, trained)}
    for test_set in options.test_sets.split():
        inputs = dict.fromkeys([*trained, *(folder / f"{test_set}_scores" for folder in folders)])
        planned[test_set] = Planned(target / f"{test_set}_scores", command, list(inputs))
    return planned


def choose(options: SystemOptions, train: TrainOptions) -> list[Choice]:
    """The best system, and the fusions of more and more; the last one is to be used."""
    import numpy as np

    from vidperson import metrics
    from vidperson.backends.fusion import select_systems
    from vidperson.io.lists import read_key, read_scores_of
    from vidperson.io.record import checked

    priors = metrics.primary_priors(options.primary_cost)

    def cost(targets: ArrayLike, nontargets: ArrayLike) -> float:
        curve = metrics.roc(targets, nontargets)
        return float(np.mean([metrics.act_dcf(curve, prior) for prior in priors]))

    key, is_target = read_key(train.train_trials)
    folders = options.fused()
    scores = [read_scores_of(checked(folder / f"{options.calibration_set}_scores"), key) for folder in folders]
    return select_systems(
        np.column_stack(scores),
        is_target,
        [str(folder) for folder in folders],
        cost,
        options.max_systems,
        train.prior,
        train.l2,
        trained_on=options.calibration_set,
    )


def _selection(choices: Sequence[Choice], primary_cost: str) -> dict[str, object]:
    """What fusion.json says of the selection."""
    from vidperson import metrics

    steps = [{"systems": choice.model.systems, "act_dcf": choice.cost} for choice in choices]
    return {"eval_priors": metrics.primary_priors(primary_cost), "selection": steps}


if __name__ == "__main__":
    cli.run(fuse, FuseOptions, __doc__)
