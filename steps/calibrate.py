#!/usr/bin/env python3
"""Calibrate the scores of all systems: train on one test set, apply to all. Any modality will do.

Inputs:
  SCORES_DIR/<embedder>/<system>/<test set>_scores
      <model> <segment> <score>, of each system that steps/score.py makes with the same options
  SCORES_DIR/<embedder>/<test set>_quality
      optional, as steps/score.py writes it: models and segments of which nothing was found, and
      measures of quality
  TRAIN_TRIALS
      <model> <segment> target|nontarget, exactly the pairs of the calibration set's scores
Outputs:
  SCORES_DIR/<embedder>/<system>_cal/<test set>_scores
      <model> <segment> <natural log-likelihood ratio>, in the order of the input
  SCORES_DIR/<embedder>/<system>_cal/calibration.json
      the weight and offset, and how they were trained (docs/formats.md)
  SCORES_DIR/<embedder>/<system>_qmf/
      with QUALITY_MEASURES the same, trained on the scores and these measures
Trials of which a side has no item train nothing. Their log-likelihood ratio is 0. Beside each is
the record of how it was made. What is there, intact and of the same options and inputs is kept.
Nothing of a system is written unless all its inputs are in order.

Example:
  steps/calibrate.py --scores-dir exp/scores --embedders arcface_tiny --backends "max ahc" \\
    --test-sets "demo_dev_test demo_eval_test" --calibration-set demo_dev_test \\
    --train-trials data/demo_dev_test/trials
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps.score import RunOptions, SystemOptions, check_systems, to_make
from vidperson import cli

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vidperson.backends.systems import System
    from vidperson.io.lists import Pairs, Scores
    from vidperson.io.planned import Planned
    from vidperson.io.quality import QualityList


@dataclass(frozen=True)
class TrainOptions:
    """How scores are turned into log-likelihood ratios."""

    train_trials: Path = cli.option(Path(), "trial list of the calibration set, with the key")
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
        for measures in dict.fromkeys(((), options.measures())):
            made = calibrated(system, options.calibration_set, measures)
            words = [*command, *(["--quality-measures", *measures] if measures else [])]
            trained = [train.train_trials, options.scores(system, options.calibration_set)]
            trained += quality_lists(options.folder(system), [options.calibration_set])
            folder = options.folder(made)
            planned[made] = {MODEL: Planned(folder / "calibration.json", words, trained)}
            for test_set in options.test_sets.split():
                more = [options.scores(system, test_set), *quality_lists(options.folder(system), [test_set])]
                inputs = list(dict.fromkeys([*trained, *more]))
                planned[made][test_set] = Planned(folder / f"{test_set}_scores", words, inputs)
    return planned


def quality_lists(folder: Path, test_sets: Sequence[str]) -> list[Path]:
    """What steps/score.py tells of models and segments beside the folder of a system, where it does."""
    return [path for name in test_sets if (path := folder.parent / f"{name}_quality").is_file()]


@dataclass(frozen=True)
class Scored:
    """Scores of a system.

    pairs: the trials. values: (N,) float64, NaN where a side has no item. qualities: what is known of the sides.
    """

    pairs: Scores
    values: NDArray[np.float64]
    qualities: QualityList | None

    def measured(self, measures: Sequence[str]) -> NDArray[np.float64]:
        """(N, 2 K) inputs of K measures, NaN where unknown."""
        import numpy as np

        from vidperson.backends.quality import inputs_of

        columns = [np.zeros((len(self.values), 0))]
        for measure in measures:
            unknown = np.full((len(self.values), 2), np.nan)
            columns.append(inputs_of(measure, self.qualities.of(self.pairs, measure) if self.qualities else unknown))
        return np.hstack(columns)


def read_scored(folder: Path, test_set: str, order: Pairs | None = None) -> Scored:
    """The scores of a system and what is known of the trials, in the order of the list or of another one.

    Raises ScoringError where these are not the same pairs, DataError for malformed or edited lists.
    """
    import numpy as np

    from vidperson.io.lists import Scores, read_scores, rows_in_order
    from vidperson.io.quality import read_qualities
    from vidperson.io.record import checked

    pairs = read_scores(checked(folder / f"{test_set}_scores"))
    if order is not None:
        values = pairs.values[rows_in_order(pairs, order)]
        pairs = Scores(order.path, order.model_ids, order.segment_ids, order.model_index, order.segment_index, values)
    lists = quality_lists(folder, [test_set])
    qualities = read_qualities(checked(lists[0])) if lists else None
    scored = np.ones(len(pairs), dtype=bool) if qualities is None else qualities.scored(pairs)
    return Scored(pairs, np.where(scored, pairs.values, np.nan), qualities)


def _calibrate_system(system: System, planned: Mapping[str, Planned], options: CalibrateOptions) -> None:
    from dataclasses import replace

    import numpy as np

    from vidperson.backends.calibration import train_linear
    from vidperson.backends.quality import input_names
    from vidperson.io.lists import as_scores, read_key

    systems, train = options.systems, options.train
    for one in planned.values():
        one.remove()
    plain = systems.folder(replace(system, calibrated_on="", quality=()))
    key, is_target = read_key(train.train_trials)
    trained = read_scored(plain, systems.calibration_set, key)
    there = np.isfinite(trained.values)
    names = tuple(name for measure in system.quality for name in input_names(measure))
    inputs = np.column_stack([trained.values, trained.measured(system.quality)])[there]
    how = (train.prior, train.l2, systems.calibration_set)
    with naming_scores(plain, systems.calibration_set, there):
        model = train_linear(inputs, is_target[there], (str(plain),), *how, measures=names)
    ratios = {}
    for test_set in [name for name in planned if name != MODEL]:
        scored = read_scored(plain, test_set)
        applied = model.apply(np.column_stack([scored.values, scored.measured(system.quality)]))
        applied = np.where(np.isnan(scored.values), 0.0, applied)
        ratios[test_set] = scored.pairs, as_scores(applied, scored.pairs)
        tell_missing(planned[test_set].target, np.isnan(scored.values))
    write_ratios(planned, ratios, model.as_dict())
    logging.info(
        "%s: log-likelihood ratio = %.6g * score%s %+.6g, from %d target and %d nontarget trials of %s",
        *(plain, model.weights[0], "".join(f" {w:+.4g} * {n}" for w, n in zip(model.weights[1:], names, strict=True))),
        *(model.offset, model.num_targets, model.num_nontargets, model.trained_on),
    )


@contextmanager
def naming_scores(folder: Path, test_set: str, there: NDArray[np.bool_]) -> Iterator[None]:
    """Puts the scores at fault in front of what is wrong with them, and how many say nothing."""
    from vidperson.errors import ScoringError

    try:
        yield
    except ScoringError as error:
        missing = len(there) - int(there.sum())
        less = f" ({missing} of {len(there)} trials have a side of which nothing was found)" if missing else ""
        raise ScoringError(f"{folder / test_set}_scores: {error}{less}") from None


def tell_missing(target: Path, missing: NDArray[np.bool_]) -> None:
    """Log how many trials of a list got the ratio 0 for want of items."""
    if missing.any():
        logging.warning(
            "%s: %d of %d trials have a side of which nothing was found; their log-likelihood ratio is 0",
            *(target, missing.sum(), len(missing)),
        )


def write_ratios(
    planned: Mapping[str, Planned], ratios: Mapping[str, tuple[Any, Any]], model: Mapping[str, Any]
) -> None:
    """Write what is planned: pairs and values of each test set, and the model."""
    import json

    from vidperson.io.atomic import atomic_write
    from vidperson.io.lists import write_scores

    for test_set, one in planned.items():
        if test_set == MODEL:
            with atomic_write(one.target) as stream:
                stream.write(json.dumps(model, indent=1, ensure_ascii=False) + "\n")
        else:
            write_scores(one.target, *ratios[test_set])
        one.note()


if __name__ == "__main__":
    cli.run(calibrate, CalibrateOptions, __doc__)
