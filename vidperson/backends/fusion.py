"""Scores of several systems to one, also of trials that some of them could not score.

Three ways: the mean of the scores; prior-weighted logistic regression of systems that are chosen greedily; and the
same with measures of quality. A system has no score (NaN) of a trial where its modality is missing: a mute recording,
a video without a face. Then the others decide, by a model that was trained on their scores only; a single system that
is left by its own calibration. So the fusion ranks such trials as that system does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vidperson.backends.calibration import LinearModel, train_linear
from vidperson.errors import ScoringError

Double = NDArray[np.float64]
Cost = Callable[[Double, Double], float]
"""(T,) target and (N,) non-target log-likelihood ratios -> what they cost; less is better."""

Pattern = tuple[int, ...]
"""The columns of the systems that have a score."""


@dataclass(frozen=True)
class Measures:
    """Measures of quality of N trials.

    names: K of them. values: (N, K) float64, NaN where unknown. owners: for each the column of a system; it counts
        only where that system has a score.
    """

    names: tuple[str, ...]
    values: Double
    owners: tuple[int, ...]

    def columns(self, pattern: Pattern) -> list[int]:
        """Which measures count beside the scores of some systems: none of a single one, see :class:`Fusion`."""
        return [i for i, owner in enumerate(self.owners) if owner in pattern] if len(pattern) > 1 else []


@dataclass(frozen=True)
class Fusion:
    """Models by the systems that have a score of a trial; of all systems, ``whole``.

    others: of fewer. A trial with a single score is calibrated as that system's scores are, without measures of
        quality; one with none has the log-likelihood ratio 0.
    """

    whole: LinearModel
    others: tuple[tuple[Pattern, LinearModel], ...] = ()

    @property
    def systems(self) -> tuple[str, ...]:
        return self.whole.systems

    def apply(self, scores: ArrayLike, measures: Measures | None = None) -> Double:
        """(N, K) scores, NaN where a system has none, to (N,) natural log-likelihood ratios."""
        values = np.asarray(scores, dtype=np.float64)
        models = dict(self.others) | {tuple(range(len(self.systems))): self.whole}
        ratios = np.zeros(len(values))
        for pattern, rows in by_pattern(values).items():
            if pattern:
                ratios[rows] = models[pattern].apply(_inputs(values, measures, pattern, rows))
        return ratios

    def as_dict(self) -> dict[str, Any]:
        """What the JSON file holds."""
        others = [model.as_dict() for _, model in self.others]
        return self.whole.as_dict() | ({"without_all_scores": others} if others else {})


@dataclass(frozen=True)
class Choice:
    """A fusion and what it costs on the trials that it was trained on."""

    model: Fusion
    cost: float


def by_pattern(scores: Double) -> dict[Pattern, NDArray[np.int64]]:
    """(N, K) scores to which rows have exactly these scores, most scores first."""
    there = ~np.isnan(scores)
    found: dict[Pattern, NDArray[np.int64]] = {}
    for flags in sorted(set(map(tuple, np.unique(there, axis=0).tolist())), key=lambda flags: (-sum(flags), flags)):
        pattern = tuple(i for i, flag in enumerate(flags) if flag)
        found[pattern] = np.flatnonzero((there == np.array(flags)).all(axis=1))
    return found


def mean_scores(scores: ArrayLike) -> Double:
    """(N, K) scores to the (N,) means of those that there are; 0 where there is none."""
    values = np.asarray(scores, dtype=np.float64)
    there = ~np.isnan(values)
    counts = there.sum(axis=1)
    return np.asarray(np.where(there, values, 0.0).sum(axis=1) / np.maximum(counts, 1))


def train_fusion(
    scores: ArrayLike,
    is_target: ArrayLike,
    systems: Sequence[str],
    patterns: Iterable[Pattern] = (),
    prior: float = 0.05,
    l2: float = 1e-5,
    trained_on: str = "",
    measures: Measures | None = None,
) -> Fusion:
    """Train a model of all systems, and one for each pattern of scores in the trials and in ``patterns``.

    scores: (N, K), NaN where a system has none. Each model is trained on all trials that have its scores.
    Raises ScoringError where these are not of both kinds, and as :func:`train_linear`.
    """
    values, target = np.asarray(scores, dtype=np.float64), np.asarray(is_target, dtype=bool)
    there = ~np.isnan(values)
    every = tuple(range(len(systems)))
    wanted = dict.fromkeys([every, *by_pattern(values), *sorted(set(patterns), key=lambda one: (-len(one), one))])
    models = {}
    for pattern in (pattern for pattern in wanted if pattern):
        rows = np.flatnonzero(there[:, list(pattern)].all(axis=1))
        names = tuple(systems[i] for i in pattern)
        kinds = int(np.count_nonzero(target[rows])), int(np.count_nonzero(~target[rows]))
        if not all(kinds):
            raise ScoringError(
                f"expected target and nontarget trials with scores of {' and '.join(names)}, found {kinds[0]} and "
                f"{kinds[1]}; calibrate on a set in which they are not missing"
            )
        inputs = _inputs(values, measures, pattern, rows)
        extra = tuple(measures.names[i] for i in measures.columns(pattern)) if measures else ()
        models[pattern] = train_linear(inputs, target[rows], names, prior, l2, trained_on, measures=extra)
    whole = models.pop(every)
    return Fusion(whole, tuple(models.items()))


def _inputs(values: Double, measures: Measures | None, pattern: Pattern, rows: NDArray[np.int64]) -> Double:
    """What the model of a pattern takes of some rows: their scores, and the measures that count."""
    scores = values[rows][:, list(pattern)]
    return scores if measures is None else np.hstack([scores, measures.values[rows][:, measures.columns(pattern)]])


def select_systems(
    scores: ArrayLike,
    is_target: ArrayLike,
    systems: Sequence[str],
    cost: Cost,
    max_systems: int = 5,
    prior: float = 0.05,
    l2: float = 1e-5,
    trained_on: str = "",
) -> list[Choice]:
    """The best system, then each time the one that lowers the cost most; the last entry is the fusion to use.

    scores: (N, K) of K systems, NaN where one has none. is_target: (N,) bool. Ends at ``max_systems``, or before when
    no system lowers the cost further. Of equally good systems the one listed first is taken.

    Raises ScoringError for a system named twice, and as :func:`train_fusion`.
    """
    values, target = np.asarray(scores, dtype=np.float64), np.asarray(is_target, dtype=bool)
    if len(set(systems)) < len(systems):
        raise ScoringError(f"a system is there twice: {' '.join(systems)}")
    chosen: list[int] = []
    choices: list[Choice] = []
    while len(choices) < min(max_systems, len(systems)):
        candidates = []
        for column in (i for i in range(len(systems)) if i not in chosen):
            columns = [*chosen, column]
            model = train_fusion(values[:, columns], target, [systems[i] for i in columns], (), prior, l2, trained_on)
            ratios = model.apply(values[:, columns])
            candidates.append((cost(ratios[target], ratios[~target]), column, model))
        best, column, model = min(candidates, key=lambda candidate: candidate[0])
        if choices and best >= choices[-1].cost:
            break
        chosen.append(column)
        choices.append(Choice(model, best))
    return choices
