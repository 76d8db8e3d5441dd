"""Intervals of figures by the bootstrap: over persons, or images, since what shares one is not independent.

A. B. Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2), 2007: persons are drawn with replacement; a
pair of two persons counts as often as the product of how often each was drawn, a pair of one person as often as it.
The 2.5 and 97.5 % points of a figure over the draws are the ends of its 95 % interval (Efron's percentile method).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

DRAWS = 1000
LEVEL = 0.95
Weights = NDArray[np.int64]


def drawn_pairs(persons: Sequence[Hashable]) -> list[Weights]:
    """How often each of N pairs counts, in each of DRAWS samples; the same ones for the same persons.

    persons: 2 N, those of the first images, then those of the second.
    """
    _, numbers = np.unique(np.asarray(persons, dtype=object).astype(str), return_inverse=True)
    first, second = np.split(numbers, 2)
    same = first == second
    return [np.where(same, times[first], times[first] * times[second]) for times in drawn_units(int(numbers.max()) + 1)]


def drawn_units(count: int) -> NDArray[np.int64]:
    """(DRAWS, count): how often each of ``count`` units is in samples of as many, drawn with replacement."""
    return np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=DRAWS)


def interval(figure: Callable[[Weights], float], draws: Sequence[Weights]) -> list[float]:
    """The 95 % interval of a figure, as [low, high]. figure: of how often each unit counts; NaN: it has none."""
    values = [figure(weights) for weights in draws]
    tail = 50 * (1 - LEVEL)
    low, high = np.nanpercentile(values, [tail, 100 - tail])
    return [float(low), float(high)]


def weighted_share(right: NDArray[np.bool_], weights: Weights) -> float:
    """Share of what is right among (N,) things that count so often; NaN where none counts."""
    total = int(weights.sum())
    return float(weights[right].sum() / total) if total else float("nan")
