"""Intervals of figures: the bootstrap over persons against the binomial law, and pairs that are not independent."""

from __future__ import annotations

import tracemalloc
from functools import partial
from statistics import NormalDist

import numpy as np
import pytest

from vidperson.metrics.intervals import drawn_pairs, drawn_units, intervals, num_draws, weighted_share


def share_interval(right: np.ndarray, persons: list[str]) -> list[float]:
    return intervals({"right": partial(weighted_share, right)}, drawn_pairs(persons))["right"]


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
    draws, units = drawn_pairs(["a", "a", "b", "b", "a", "c"]), drawn_units(3, 1000)
    for weights, (a, b, c) in zip(draws, map(np.ndarray.tolist, units), strict=True):
        assert weights.tolist() == [a * b, a, b * c]


def test_draws_one_by_one_are_those_of_one_call_of_the_generator() -> None:
    at_once = np.random.default_rng(0).multinomial(7, np.full(7, 1 / 7), size=1000)
    assert np.array_equal(list(drawn_units(7, 1000)), at_once) and (at_once.sum(axis=1) == 7).all()


def test_intervals_of_several_figures_are_the_percentiles_of_each_over_the_draws_that_have_it() -> None:
    draws = list(drawn_units(2, 1000))
    firsts = [float(weights[0]) for weights in draws if weights[0]]
    found = intervals(
        {"all": lambda weights: float(weights.sum()), "first": lambda weights: float(weights[0] or "nan")}, draws
    )
    assert found == {"all": [2, 2], "first": np.percentile(firsts, [2.5, 97.5]).tolist()}


def test_intervals_of_a_long_list_hold_one_draw_at_a_time() -> None:
    count = 20_000
    persons = np.random.default_rng(1).integers(0, 500, 2 * count).astype(str).tolist()
    figure = partial(weighted_share, np.arange(count) % 10 != 0)
    tracemalloc.start()
    try:
        low, high = intervals({"right": figure}, drawn_pairs(persons))["right"]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert low < 0.9 < high
    assert peak < 10 * 8 * count  # a thousand draws are 8,000 bytes a pair


@pytest.mark.parametrize(("length", "draws"), [(1, 1000), (20_000, 1000), (60_000, 333), (10**6, 200)])
def test_long_list_has_fewer_draws_but_two_hundred(length: int, draws: int) -> None:
    assert num_draws(length) == draws
