"""Intervals of figures by the bootstrap: over persons, or images, since what shares one is not independent.

A. B. Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2), 2007: persons are drawn with replacement; a
pair of two persons counts as often as the product of how often each was drawn, a pair of one person as often as it.
The 2.5 and 97.5 % points of a figure over the draws are the ends of its 95 % interval (Efron's percentile method).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

MAX_DRAWS = 1000
MIN_DRAWS = 200
MAX_COUNTED = 20_000_000  # draws times what is counted in each
LEVEL = 0.95
Weights = NDArray[np.int64]


def num_draws(length: int) -> int:
    """Samples to draw for a list of ``length`` pairs or images.

    1000 up to 20,000; then fewer, so that 2 x 10^7 are counted in all; never fewer than 200, thus from 100,000 on.
    """
    return min(MAX_DRAWS, max(MIN_DRAWS, MAX_COUNTED // length))


def drawn_pairs(persons: Sequence[str]) -> Iterator[Weights]:
    """(N,) per sample: how often each of N pairs counts; :func:`num_draws` samples, the same for the same persons.

    persons: 2 N, those of the first images, then those of the second.
    """
    number = {person: at for at, person in enumerate(sorted(set(persons)))}
    numbers = np.fromiter((number[person] for person in persons), np.int64, len(persons))
    first, second = np.split(numbers, 2)
    same = first == second
    for times in drawn_units(len(number), num_draws(len(first))):
        yield np.where(same, times[first], times[first] * times[second])


def drawn_units(count: int, draws: int) -> Iterator[Weights]:
    """(count,) per sample: how often each of ``count`` units is in one of as many, drawn with replacement."""
    rng, shares = np.random.default_rng(0), np.full(count, 1 / count)
    for _ in range(draws):
        yield rng.multinomial(count, shares)


def intervals(figures: Mapping[str, Callable[[Weights], float]], draws: Iterable[Weights]) -> dict[str, list[float]]:
    """The 95 % intervals of figures, as [low, high], by their names; only one draw is held at a time.

    figures: each of how often each unit counts; NaN: a draw has none.
    """
    values = [[figure(weights) for figure in figures.values()] for weights in draws]
    tail = 50 * (1 - LEVEL)
    lows, highs = np.nanpercentile(values, [tail, 100 - tail], axis=0).tolist()
    return {name: [low, high] for name, low, high in zip(figures, lows, highs, strict=True)}


def weighted_share(right: NDArray[np.bool_], weights: Weights) -> float:
    """Share of what is right among (N,) things that count so often; NaN where none counts."""
    total = int(weights.sum())
    return float(weights[right].sum() / total) if total else float("nan")
