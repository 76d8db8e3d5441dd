#!/usr/bin/env python3
"""Fuse the scores of several systems, of any modality, also of trials that some could not score.

Inputs:
  <system>/<test set>_scores
      per system <model> <segment> <score>; all systems have the same pairs, in any order
  <system>/../<test set>_quality
      optional, as steps/score.py writes it: models and segments of which nothing was found, and
      measures of quality. The scores of such trials are missing scores
  TRAIN_TRIALS
      <model> <segment> target|nontarget, exactly the pairs of the calibration set's scores
Outputs:
  SCORES_DIR/fusion/<experiment>/<test set>_scores, by the method logistic
      <model> <segment> <natural log-likelihood ratio>, in the order of the first system chosen
  SCORES_DIR/fusion-quality/<experiment>/<test set>_scores, by the method quality
      the same with QUALITY_MEASURES as further inputs
  SCORES_DIR/fusion-mean/<experiment>/<test set>_scores, by the method mean
      <model> <segment> <mean of the scores>; nothing is trained or chosen
  SCORES_DIR/<method>/<experiment>/fusion.json
      systems, weights and offset, how they were trained, and the costs on the way of the selection
      (docs/formats.md); none of the method mean
A trial that some systems could not score gets what those of the other systems say: a model trained
on these only, or their mean. One that none could score gets 0. The log counts them.

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from steps.calibrate import MODEL, Scored, TrainOptions, quality_lists, read_scored, write_ratios
from steps.score import RunOptions, SystemOptions, check_systems, to_make
from vidperson import cli

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from vidperson.backends.fusion import Choice, Measures
    from vidperson.io.lists import Pairs
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
    check_systems(options.systems)
    planned = plan_fusions(options.systems, options.train)
    wanted = to_make([one for ours in planned.values() for one in ours.values()], options.run)
    choices: list[Choice] = []
    for method, ours in planned.items():
        left = {test_set: one for test_set, one in ours.items() if one in wanted}
        for one in left.values():
            one.remove()
        if left and method == "mean":
            _fuse_by_mean(left, options.systems)
        elif left:
            choices = choices or choose(options.systems, options.train)
            _fuse_by_model(method, left, choices, options)


def _fuse_by_mean(planned: Mapping[str, Planned], options: SystemOptions) -> None:
    from vidperson.backends.fusion import mean_scores
    from vidperson.io.lists import as_scores

    ratios = {}
    for test_set in planned:
        scored = read_systems(options.fused(), test_set)
        values = columns_of(scored)
        ratios[test_set] = scored[0].pairs, as_scores(mean_scores(values), scored[0].pairs)
        tell_patterns(planned[test_set].target, values, [str(folder) for folder in options.fused()])
    write_ratios(planned, ratios, {})


def _fuse_by_model(
    method: str, planned: Mapping[str, Planned], choices: Sequence[Choice], options: FuseOptions
) -> None:
    """Train on the scores of the systems that were chosen, with measures if the method takes them, and apply."""
    from vidperson.backends.fusion import by_pattern, train_fusion
    from vidperson.io.lists import as_scores, read_key

    systems, train = options.systems, options.train
    names = choices[-1].model.systems
    folders, measures = [Path(name) for name in names], systems.measures() if method == "quality" else ()
    scored = {test_set: read_systems(folders, test_set) for test_set in systems.test_sets.split()}
    patterns = {pattern for ours in scored.values() for pattern in by_pattern(columns_of(ours))}
    key, is_target = read_key(train.train_trials)
    trained = read_systems(folders, systems.calibration_set, key)
    model = train_fusion(
        *(columns_of(trained), is_target, names, patterns, train.prior, train.l2, systems.calibration_set),
        measures=measures_of(trained, folders, measures),
    )
    ratios = {}
    for test_set in [name for name in planned if name != MODEL]:
        ours = scored[test_set]
        values = columns_of(ours)
        applied = model.apply(values, measures_of(ours, folders, measures))
        ratios[test_set] = ours[0].pairs, as_scores(applied, ours[0].pairs)
        tell_patterns(planned[test_set].target, values, names)
    write_ratios(planned, ratios, model.as_dict() | _selection(choices, systems.primary_cost))
    for choice in choices:
        logging.info(
            "actual cost (%s) %.4f on %s: %s",
            *(systems.primary_cost, choice.cost, systems.calibration_set, choice.model.systems),
        )


def read_systems(folders: Sequence[Path], test_set: str, order: Pairs | None = None) -> list[Scored]:
    """What each system tells of a test set, in the order of a list; without one in the order of the first system."""
    first = read_scored(folders[0], test_set, order)
    return [first, *(read_scored(folder, test_set, first.pairs) for folder in folders[1:])]


def columns_of(scored: Sequence[Scored]) -> NDArray[np.float64]:
    """(N, K) scores of K systems, NaN where they are missing."""
    import numpy as np

    return np.column_stack([one.values for one in scored])


def measures_of(scored: Sequence[Scored], folders: Sequence[Path], names: Sequence[str]) -> Measures | None:
    """The measures of quality of some systems, those of one embedder once; None where none are asked for."""
    import numpy as np

    from vidperson.backends.fusion import Measures
    from vidperson.backends.quality import input_names

    if not names:
        return None
    embedders = list(dict.fromkeys(folder.parent for folder in folders))
    owners = [next(i for i, folder in enumerate(folders) if folder.parent == embedder) for embedder in embedders]
    values = np.hstack([scored[owner].measured(names) for owner in owners])
    named = [(name, owner) for embedder, owner in zip(embedders, owners, strict=True)
             for measure in names for name in input_names(measure, embedder.name)]  # fmt: skip
    return Measures(tuple(name for name, _ in named), values, tuple(owner for _, owner in named))


def tell_patterns(target: Path, values: NDArray[np.float64], names: Sequence[str]) -> None:
    """Log how many trials some systems could not score, by the systems that could."""
    from vidperson.backends.fusion import by_pattern

    for pattern, rows in by_pattern(values).items():
        if len(pattern) < len(names) and len(rows):
            left = f"scores only of {' and '.join(names[i] for i in pattern)}" if pattern else "no score: it becomes 0"
            logging.warning("%s: %d of %d trials have %s", target, len(rows), len(values), left)


def plan_fusions(options: SystemOptions, train: TrainOptions) -> dict[str, dict[str, Planned]]:
    """Way to fuse -> the fused scores of each test set, and the model, if there is one, as that of ``MODEL``.

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
    test_sets, on = options.test_sets.split(), options.calibration_set
    planned = {}
    for method, system in options.fusions().items():
        target = options.folder(system)
        command = ["python", "steps/fuse.py", "--systems", *map(str, folders)]
        command += ["--method", method] if method != "logistic" else []
        command += ["--quality-measures", *system.quality] if system.quality else []
        trained: list[Path] = []
        ours = {}
        if method != "mean":
            command += ["--calibration-set", on, *train.words()]
            command += ["--max-systems", str(options.max_systems), "--primary-cost", options.primary_cost]
            trained = [train.train_trials, *_read_of(folders, [on])]
            ours[MODEL] = Planned(target / "fusion.json", command, trained + _qualities_of(folders, test_sets))
        for test_set in test_sets:
            inputs = list(dict.fromkeys([*trained, *_read_of(folders, [test_set])]))
            ours[test_set] = Planned(target / f"{test_set}_scores", command, inputs)
        planned[method] = ours
    return planned


def _read_of(folders: Sequence[Path], test_sets: Sequence[str]) -> list[Path]:
    """What is read of systems and test sets."""
    scores = [folder / f"{test_set}_scores" for test_set in test_sets for folder in folders]
    return [*scores, *_qualities_of(folders, test_sets)]


def _qualities_of(folders: Sequence[Path], test_sets: Sequence[str]) -> list[Path]:
    return list(dict.fromkeys(path for folder in folders for path in quality_lists(folder, test_sets)))


def choose(options: SystemOptions, train: TrainOptions) -> list[Choice]:
    """The best system, and the fusions of more and more; the last one is to be used."""
    import numpy as np

    from vidperson import metrics
    from vidperson.backends.fusion import select_systems
    from vidperson.io.lists import read_key

    priors = metrics.primary_priors(options.primary_cost)

    def cost(targets: ArrayLike, nontargets: ArrayLike) -> float:
        curve = metrics.roc(targets, nontargets)
        return float(np.mean([metrics.act_dcf(curve, prior) for prior in priors]))

    key, is_target = read_key(train.train_trials)
    folders = options.fused()
    return select_systems(
        columns_of(read_systems(folders, options.calibration_set, key)),
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
