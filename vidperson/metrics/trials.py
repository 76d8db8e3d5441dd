"""Intervals of the error rates of a trial list: by the bootstrap over persons, see :mod:`vidperson.metrics.intervals`.

The key tells persons apart: a target trial says that model and segment are the same person.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vidperson.metrics.detection import C_FA, C_MISS, normalised_dcf
from vidperson.metrics.intervals import LEVEL, drawn_units, num_draws

MIN_PERSONS = 5  # fewer say too little of the next ones
MOST_TRIALS = 2_000_000  # as many draws of more take minutes
_BLOCK = 4_000_000  # draws times trials that are held at once

Persons = tuple[NDArray[np.int64], NDArray[np.int64]]
"""(N,) each: the numbers, from 0, of the persons of the models and of the segments of N trials."""


def persons_of(models: ArrayLike, segments: ArrayLike, is_target: ArrayLike) -> Persons:
    """The persons of N trials: what target trials join, directly or by others, is one.

    models, segments: (N,) numbers, from 0, of the names; a model and a segment of the same name have the same number.
        They are one person, too, unless a non-target trial of the two says that they only share the name.
    is_target: (N,) bool. What is in no target trial is a person of its own.
    """
    first, second = np.asarray(models, np.int64), np.asarray(segments, np.int64)
    target = np.asarray(is_target, bool)
    namesakes = first[(first == second) & ~target]
    if len(namesakes):
        second = np.where(np.isin(second, namesakes), second + max(first.max(), second.max()) + 1, second)
    one, other = first[target], second[target]
    number = np.arange(max(first.max(), second.max()) + 1 if len(first) else 0)
    while True:  # each name takes the smallest number that is joined to it
        smaller = np.minimum(number[one], number[other])
        joined = number.copy()
        for names in (one, other, number[one], number[other]):
            np.minimum.at(joined, names, smaller)
        joined = joined[joined]
        if np.array_equal(joined, number):
            break
        number = joined
    numbers = np.unique(number[np.concatenate([first, second])], return_inverse=True)[1]
    person, tested = np.split(numbers, 2)
    return person, tested


@dataclass(frozen=True)
class DrawnRates:
    """The errors of one system at every threshold that matters, in samples of the persons.

    p_miss, p_fa: (D, M) in D samples, thresholds ascending; NaN in a sample without targets or non-targets.
    """

    p_miss: NDArray[np.float64]
    p_fa: NDArray[np.float64]

    def eer(self) -> NDArray[np.float64]:
        """(D,) equal error rates on the convex hulls: the cost of the prior for which the best decision costs most."""
        rows = np.arange(len(self.p_miss))
        left, right = (np.zeros(len(rows), np.int64), np.full(len(rows), self.p_miss.shape[1] - 1))
        while True:  # the line between a point left and one right of the diagonal comes down to the hull
            (left_miss, left_fa), (right_miss, right_fa) = (self._at(rows, points) for points in (left, right))
            fall, rise = left_fa - right_fa, right_miss - left_miss
            prior = fall / (fall + rise)
            line = prior * left_miss + (1 - prior) * left_fa
            best = np.argmin(prior[:, None] * self.p_miss + (1 - prior[:, None]) * self.p_fa, axis=1)
            miss, fa = self._at(rows, best)
            lower = prior * miss + (1 - prior) * fa < line - 1e-12
            if not lower.any():
                return line
            left = np.where(lower & (miss < fa), best, left)
            right = np.where(lower & (miss >= fa), best, right)

    def min_dcf(self, prior: float, c_miss: float = C_MISS, c_fa: float = C_FA) -> NDArray[np.float64]:
        """(D,) smallest normalised costs."""
        return np.asarray(normalised_dcf(self.p_miss, self.p_fa, prior, c_miss, c_fa).min(axis=1))

    def _at(self, rows: NDArray[np.int64], points: NDArray[np.int64]) -> tuple[NDArray[np.float64], ...]:
        return self.p_miss[rows, points], self.p_fa[rows, points]


def drawn_rates(scores: ArrayLike, is_target: ArrayLike, persons: Persons, draws: int) -> Iterator[DrawnRates]:
    """The errors of N scored trials in ``draws`` samples of their persons, some at a time.

    scores, is_target: (N,). The samples are the same for the same persons, whatever the scores: what two systems differ
    by can be told sample by sample.
    """
    values, target = np.asarray(scores, np.float64), np.asarray(is_target, bool)
    first, second = persons
    run, count = _runs(values, target)
    places = []  # of targets, then of non-targets: which trials, by their runs, where each run begins, and which it is
    for kind in (target, ~target):
        rows = np.flatnonzero(kind)
        rows = rows[np.argsort(run[rows], kind="stable")]
        begins = np.flatnonzero(np.diff(run[rows], prepend=-1))
        places.append((rows, begins, run[rows][begins]))
    samples = drawn_units(int(max(first.max(), second.max())) + 1, draws)
    while block := list(islice(samples, max(1, _BLOCK // len(values)))):
        times = np.stack(block)
        totals = []
        for rows, begins, runs in places:
            one, other = first[rows], second[rows]
            weights = np.where(one == other, times[:, one], times[:, one] * times[:, other])
            total = np.zeros((len(times), count + 1), np.int64)
            total[:, runs + 1] = np.add.reduceat(weights, begins, axis=1)
            totals.append(np.cumsum(total, axis=1))
        misses, rejected = totals
        with np.errstate(invalid="ignore"):
            yield DrawnRates(misses / misses[:, -1:], 1 - rejected / rejected[:, -1:])


def _runs(values: NDArray[np.float64], target: NDArray[np.bool_]) -> tuple[NDArray[np.int64], int]:
    """(N,) the run of each trial, and how many there are: equal scores, or neighbours of one kind, are together."""
    score = np.unique(values, return_inverse=True)[1]
    kinds = np.bincount(score[target], minlength=score.max() + 1) > 0, np.bincount(score[~target]) > 0
    kind = kinds[0] + 2 * np.pad(kinds[1], (0, len(kinds[0]) - len(kinds[1])))
    begins = np.append(True, (kind[1:] != kind[:-1]) | (kind[1:] == 3))
    run = np.cumsum(begins) - 1
    return run[score], int(run[-1]) + 1


def interval(values: NDArray[np.float64]) -> list[float] | None:
    """[low, high] of the 95 % interval of a figure's (D,) values.

    None where most samples have none, or all are 0: samples of what has no error cannot tell of any.
    """
    known = values[~np.isnan(values)]
    if len(known) < 0.9 * len(values) or not known.any():
        return None
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(known, [tail, 100 - tail]).tolist()
    return [low, high]


def trial_intervals(
    scores: ArrayLike,
    is_target: ArrayLike,
    persons: Persons,
    priors: Sequence[float],
    c_miss: float = C_MISS,
    c_fa: float = C_FA,
) -> Mapping[str, object] | None:
    """The 95 % intervals of N scored trials: ``level``, ``persons``, ``draws``, ``eer`` and, per prior, ``min_dcf``.

    None with fewer than MIN_PERSONS persons, or more than MOST_TRIALS trials.
    """
    count, number = len(np.unique(np.concatenate(persons))), len(persons[0])
    if count < MIN_PERSONS or number > MOST_TRIALS:
        return None
    draws = num_draws(number)
    eers, costs = list[NDArray[np.float64]](), list[list[NDArray[np.float64]]]()
    for rates in drawn_rates(scores, is_target, persons, draws):
        eers.append(rates.eer())
        costs.append([rates.min_dcf(prior, c_miss, c_fa) for prior in priors])
    return {
        "level": LEVEL,
        "persons": count,
        "draws": draws,
        "eer": interval(np.concatenate(eers)),
        "min_dcf": [interval(np.concatenate(values)) for values in zip(*costs, strict=True)],
    }
