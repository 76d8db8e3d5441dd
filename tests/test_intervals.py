"""Intervals of figures: the bootstrap over persons against the binomial law, and pairs that are not independent."""

from __future__ import annotations

from functools import partial
from statistics import NormalDist

import numpy as np
import pytest

from vidperson.metrics.intervals import drawn_pairs, drawn_units, interval, weighted_share


def share_interval(right: np.ndarray, persons: list[str]) -> list[float]:
    return interval(partial(weighted_share, right), drawn_pairs(persons))


def wilson(share: float, count: int) -> list[float]:
    """E. B. Wilson, Journal of the American Statistical Association 22 (1927)."""
    z = NormalDist().inv_cdf(0.975)
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return [middle - half, middle + half]


def test_interval_of_pairs_without_common_persons_is_that_of_the_binomial_law() -> None:
    right = np.arange(1000) % 10 != 0
    persons = [str(number) for number in range(1000)]  # pairs of one person each
    assert share_interval(right, persons + persons) == pytest.approx(wilson(0.9, 1000), abs=0.003)


def test_interval_of_persons_in_nine_pairs_each_is_three_times_as_wide() -> None:
    right = np.repeat(np.arange(200) % 4 != 0, 9)
    persons = [str(number // 9) for number in range(1800)]
    low, high = share_interval(right, persons + persons)
    alone = wilson(0.75, 1800)
    assert (high - low) / (alone[1] - alone[0]) == pytest.approx(3, rel=0.1)


def test_pair_of_two_persons_counts_as_often_as_both_are_drawn_together() -> None:
    draws, units = drawn_pairs(["a", "a", "b", "b", "a", "c"]), drawn_units(3)
    for weights, (a, b, c) in zip(draws, units.tolist(), strict=True):
        assert weights.tolist() == [a * b, a, b * c]


def test_draws_are_the_same_every_time_and_of_as_many_units() -> None:
    first = drawn_units(7)
    assert (first == drawn_units(7)).all() and (first.sum(axis=1) == 7).all()
