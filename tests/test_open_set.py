"""Open-set figures and probabilities of "nobody" against plain loops and values worked out by hand."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from vidperson.errors import ScoringError
from vidperson.metrics import open_set
from vidperson.metrics.open_set import Searches, operating_point, searches
from vidperson.metrics.probabilities import brier, constant_cross_entropy, cross_entropy, min_cross_entropy

LISTS = {
    "a": [("p", 0.9), ("q", 0.4)],
    "b": [("q", 0.8), ("p", 0.7)],
    "c": [("q", 0.6)],
    "x": [("p", 0.75)],
    "y": [("q", 0.5), ("p", 0.1)],
    "z": [("p", 0.2)],
}
SHOWN = {"a": {"p"}, "b": {"p"}, "c": {"p", "q"}, "d": {"q"}}  # d has no list, w neither


def small():
    return searches(LISTS, SHOWN, ["a", "b", "c", "d", "w", "x", "y", "z"])


def test_searches_take_the_best_right_model_and_strangers_their_best():
    found = small()
    assert found.scores.tolist() == [0.9, 0.7, 0.6, -math.inf]
    assert found.ranks.tolist() == [1, 2, 1, 0]
    assert found.strangers.tolist() == [-math.inf, 0.75, 0.5, 0.2]


@pytest.mark.parametrize(
    ("fpir", "threshold", "measured", "fnir", "detected"),
    [
        (0.1, 0.75, 0, 3 / 4, 1 / 4),  # of 4 strangers none may pass
        (0.25, 0.5, 0.25, 1 / 4, 2 / 4),  # one may; b's right model is second
        (0.49, 0.5, 0.25, 1 / 4, 2 / 4),
        (0.5, 0.2, 0.5, 1 / 4, 2 / 4),
    ],
)
def test_threshold_lies_just_above_the_next_stranger(fpir, threshold, measured, fnir, detected):
    point = operating_point(small(), fpir)
    assert point["threshold"] == np.nextafter(threshold, 1)
    assert (point["measured_fpir"], point["fnir"], point["dir"]) == (measured, fnir, detected)
    assert point["resolved"] == (fpir >= 0.25)


def test_false_positives_of_all_that_have_a_list_need_no_threshold():
    point = operating_point(small(), 0.75)
    assert point["threshold"] is None and point["measured_fpir"] == 0.75
    assert (point["fnir"], point["dir"]) == (0.25, 0.5)


def naive_point(found, fpir):
    """The lowest of all candidate thresholds that keeps the share of strangers at or above it."""
    for threshold in sorted({np.nextafter(s, math.inf) for s in found.strangers.tolist()} | {-1e9}):
        passed = sum(score >= threshold for score in found.strangers.tolist())
        if passed <= fpir * len(found.strangers):
            break
    hits = [s >= threshold and r > 0 for s, r in zip(found.scores.tolist(), found.ranks.tolist(), strict=True)]
    first = [hit and rank == 1 for hit, rank in zip(hits, found.ranks.tolist(), strict=True)]
    return passed / len(found.strangers), 1 - sum(hits) / len(hits), sum(first) / len(first)


def random_searches(seed, decimals):
    """Tied scores where ``decimals`` is small; some without a list."""
    rng = random.Random(seed)
    count, strangers = rng.randint(1, 60), rng.randint(1, 150)
    scores = np.array([round(rng.gauss(1, 1), decimals) for _ in range(count)])
    ranks = np.array([rng.choice((0, 1, 1, 2, 3)) for _ in range(count)])
    scores[ranks == 0] = -math.inf
    return Searches(scores, ranks, np.array([round(rng.gauss(0, 1), decimals) for _ in range(strangers)]))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_random_searches_give_the_figures_of_a_plain_loop(seed, decimals):
    found = random_searches(seed, decimals)
    for fpir in (0.001, 0.01, 0.29, 0.5):
        point = operating_point(found, fpir)
        assert (point["measured_fpir"], point["fnir"], point["dir"]) == pytest.approx(naive_point(found, fpir))


@pytest.mark.parametrize("seed", range(10))
def test_points_of_the_curve_are_operating_points(seed):
    found = random_searches(seed, 1)
    curve = open_set.curve(found)
    assert curve["fpir"][0] == 0 and curve["fpir"] == sorted(curve["fpir"]) and curve["fpir"][-1] == 1
    for fpir, fnir, detected in zip(curve["fpir"], curve["fnir"], curve["dir"], strict=True):
        point = operating_point(found, fpir)
        assert (point["fnir"], point["dir"]) == pytest.approx((fnir, detected))


def test_long_curve_is_thinned_and_keeps_its_ends():
    rng = np.random.default_rng(0)
    found = Searches(rng.normal(1, 1, 5000), np.ones(5000, int), rng.normal(0, 1, 20000))
    curve = open_set.curve(found)
    assert len(curve["fpir"]) <= open_set.MOST_POINTS
    assert (curve["fpir"][0], curve["fpir"][-1], curve["fnir"][-1]) == (0, 1, 0)
    assert curve["fpir"][1] == 1 / 20000


def test_intervals_hold_the_figures_and_are_wide_where_there_are_few_strangers():
    rng = np.random.default_rng(1)
    units = np.repeat(np.arange(40), 5)
    widths = []
    for strangers in (50, 2000):
        found = Searches(rng.normal(2, 1, 200), np.ones(200, int), rng.normal(0, 1, strangers))
        point = operating_point(found, 0.1)
        got = open_set.open_set_intervals(found, units, [0.1], [1])
        low, high = got["fnir@0.1"]
        assert low <= point["fnir"] <= high and got["rank-1"] == [1, 1]
        assert got["dir@0.1"] == pytest.approx([1 - high, 1 - low])
        widths.append(high - low)
    assert widths[0] > 1.5 * widths[1]


@pytest.mark.parametrize(("segments", "what"), [(["a", "b"], "show none"), (["x", "w"], "show a model")])
def test_segments_of_one_kind_only_are_refused(segments, what):
    with pytest.raises(ScoringError, match=f"segments that {what}, found none"):
        searches(LISTS, SHOWN, segments)


def test_probabilities_worked_out_by_hand():
    true, false = np.array([0.5, 1.0]), np.array([0.25])
    assert cross_entropy(true, false) == pytest.approx((1 + 0 + math.log2(4 / 3)) / 3, abs=1e-9)
    assert brier(true, false) == pytest.approx((0.25 + 0 + 0.0625) / 3)
    assert constant_cross_entropy(1, 1) == 1
    assert cross_entropy(np.array([0.0]), np.array([])) == pytest.approx(math.log2(1e12))  # a wrong certainty


def naive_min(true, false):
    """The least over all non-decreasing maps: pools of neighbours in all ways, for a few values."""
    values = sorted([(p, 1) for p in true] + [(p, 0) for p in false])
    best = math.inf
    for cuts in range(2 ** (len(values) - 1)):
        pools, start = [], 0
        for at in range(1, len(values) + 1):
            if at == len(values) or cuts >> (at - 1) & 1:
                pools.append([happened for _, happened in values[start:at]])
                start = at
        shares = [sum(pool) / len(pool) for pool in pools]
        if shares == sorted(shares):
            bits = [
                -math.log2(share if happened else 1 - share)
                for pool, share in zip(pools, shares, strict=True)
                for happened in pool
            ]
            best = min(best, sum(bits) / len(values))
    return best


@pytest.mark.parametrize("seed", range(10))
def test_minimum_cross_entropy_is_that_of_the_best_monotone_map(seed):
    rng = np.random.default_rng(seed)
    true, false = rng.uniform(0.2, 1, rng.integers(1, 6)), rng.uniform(0, 0.8, rng.integers(1, 6))
    assert min_cross_entropy(true, false) == pytest.approx(naive_min(true, false), abs=1e-12)
    assert min_cross_entropy(true, false) <= cross_entropy(true, false)
