"""Detection metrics against closed forms, a brute-force sweep and an independent isotonic regression."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression
from scipy.stats import norm

from vidperson.errors import ScoringError
from vidperson.metrics import act_dcf, bayes_threshold, convex_hull, eer, min_dcf, normalised_dcf, roc

score_lists = st.lists(st.integers(-6, 6), min_size=1, max_size=25)
priors = st.floats(0.001, 0.999)


def sweep(targets, nontargets):
    """(P_miss, P_fa) at every threshold, counted one trial at a time."""
    for threshold in [*sorted({*targets, *nontargets}), float("inf")]:
        misses = sum(1 for score in targets if not score >= threshold)
        false_alarms = sum(1 for score in nontargets if score >= threshold)
        yield threshold, Fraction(misses, len(targets)), Fraction(false_alarms, len(nontargets))


def eer_by_mixing(targets, nontargets):
    """The hull's EER without a hull: the best mixture of two operating points that errs equally often."""
    points = {(p_miss, p_fa) for _, p_miss, p_fa in sweep(targets, nontargets)}
    best = [p_miss for p_miss, p_fa in points if p_miss == p_fa]
    for (m1, f1), (m2, f2) in itertools.combinations(points, 2):
        if (m1 - f1) * (m2 - f2) < 0:
            weight = (m2 - f2) / ((m2 - f2) - (m1 - f1))
            best.append(weight * m1 + (1 - weight) * m2)
    return float(min(best))


def hull_by_pav(targets, nontargets):
    """Hull vertices from isotonic regression of the labels on the scores (ties pooled by weights)."""
    _, where = np.unique(np.concatenate([targets, nontargets]), return_inverse=True)
    is_target = np.repeat([1.0, 0.0], [len(targets), len(nontargets)])
    weights = np.bincount(where).astype(float)
    fitted = isotonic_regression(np.bincount(where, is_target) / weights, weights=weights)
    tar, non = np.bincount(where, is_target), np.bincount(where, 1 - is_target)
    starts = fitted.blocks[:-1]
    # Blocks of equal value are one segment of the hull.
    starts = starts[np.append(True, ~np.isclose(np.diff(fitted.x[starts]), 0, atol=1e-12))]
    misses = np.append(0, np.cumsum(np.add.reduceat(tar, starts)))
    false_alarms = len(nontargets) - np.append(0, np.cumsum(np.add.reduceat(non, starts)))
    return misses.astype(int).tolist(), false_alarms.astype(int).tolist()


@given(score_lists, score_lists)
def test_roc_scores_with_ties_equals_counting_at_every_threshold(targets, nontargets):
    curve = roc(targets, nontargets)
    found = list(zip(curve.thresholds, curve.misses, curve.false_alarms, strict=True))
    expected = [(t, m * len(targets), f * len(nontargets)) for t, m, f in sweep(targets, nontargets)]
    assert found == expected


@settings(deadline=None)
@given(score_lists, score_lists)
def test_convex_hull_scores_with_ties_equals_isotonic_regression(targets, nontargets):
    misses, false_alarms = convex_hull(roc(targets, nontargets))
    assert (misses.tolist(), false_alarms.tolist()) == hull_by_pav(targets, nontargets)


@settings(deadline=None)
@given(score_lists, score_lists)
def test_eer_scores_with_ties_equals_best_mixture_of_operating_points(targets, nontargets):
    assert eer(roc(targets, nontargets)) == pytest.approx(eer_by_mixing(targets, nontargets), abs=1e-12)


@given(score_lists, score_lists, priors)
def test_dcf_scores_with_ties_equals_brute_force_sweep(targets, nontargets, prior):
    def cost(p_miss, p_fa):
        return (prior * p_miss + (1 - prior) * p_fa) / min(prior, 1 - prior)

    points = list(sweep(targets, nontargets))
    curve = roc(targets, nontargets)
    assert min_dcf(curve, prior) == pytest.approx(min(cost(m, f) for _, m, f in points), abs=1e-12)
    decided = bayes_threshold(prior)
    p_miss = sum(score < decided for score in targets) / len(targets)
    p_fa = sum(score >= decided for score in nontargets) / len(nontargets)
    assert act_dcf(curve, prior) == pytest.approx(cost(p_miss, p_fa), abs=1e-12)


@given(score_lists, score_lists, priors)
def test_metrics_increasing_map_of_scores_changes_nothing_but_act_dcf(targets, nontargets, prior):
    plain = roc(targets, nontargets)
    mapped = roc(np.exp(np.array(targets) / 3) - 40, np.exp(np.array(nontargets) / 3) - 40)
    assert eer(mapped) == eer(plain) and min_dcf(mapped, prior) == min_dcf(plain, prior)


@given(score_lists, score_lists, st.randoms(use_true_random=False))
def test_metrics_permuted_scores_give_the_same(targets, nontargets, random):
    before = roc(targets, nontargets)
    shuffled = targets[:], nontargets[:]
    for scores in shuffled:
        random.shuffle(scores)
    after = roc(*shuffled)
    assert (eer(after), act_dcf(after, 0.1)) == (eer(before), act_dcf(before, 0.1))


def test_metrics_gaussian_log_likelihood_ratios_match_closed_form():
    # Scores are LLRs exactly when targets are N(d^2/2, d^2) and non-targets N(-d^2/2, d^2). Quantiles instead
    # of random draws leave no sampling noise.
    d, n = 2.5, 400_000
    quantiles = norm.ppf((np.arange(n) + 0.5) / n)
    curve = roc(d * quantiles + d * d / 2, d * quantiles - d * d / 2)
    assert eer(curve) == pytest.approx(norm.cdf(-d / 2), abs=2e-5)
    for prior in (0.5, 0.05, 0.01):
        threshold = np.log((1 - prior) / prior)
        p_miss, p_fa = norm.cdf((threshold - d * d / 2) / d), norm.sf((threshold + d * d / 2) / d)
        expected = (prior * p_miss + (1 - prior) * p_fa) / min(prior, 1 - prior)
        assert act_dcf(curve, prior) == pytest.approx(expected, abs=5e-4)
        assert min_dcf(curve, prior) == pytest.approx(expected, abs=5e-4)
        assert min_dcf(curve, prior) <= act_dcf(curve, prior)


@pytest.mark.parametrize(
    ("targets", "nontargets", "expected"),
    [
        ([1, 2], [-1, 0], 0.0),
        ([-1, 0], [1, 2], 0.5),
        ([3, 3], [3, 3, 3], 0.5),
        ([0, 2], [1], 1 / 3),
        ([5], [4], 0.0),
    ],
)
def test_eer_small_cases_by_hand(targets, nontargets, expected):
    assert eer(roc(targets, nontargets)) == pytest.approx(expected)


def test_min_dcf_useless_scores_costs_one_and_act_dcf_may_cost_more():
    curve = roc([5.0], [9.0])
    assert min_dcf(curve, 0.05) == 1 and act_dcf(curve, 0.05) == pytest.approx(0.95 / 0.05)


def test_act_dcf_score_at_the_threshold_is_accepted():
    threshold = bayes_threshold(0.05)
    assert threshold == pytest.approx(np.log(19))
    assert act_dcf(roc([threshold], [-9.0]), 0.05) == 0
    assert act_dcf(roc([np.nextafter(threshold, 0)], [-9.0]), 0.05) == pytest.approx(1)


def test_normalised_dcf_high_prior_normalises_by_false_alarms():
    assert normalised_dcf([0.0, 1.0], [1.0, 0.0], 0.9) == pytest.approx([1.0, 9.0])


def test_metrics_large_lists_stay_within_seconds_and_whole_numbers():
    rng = np.random.default_rng(0)
    curve = roc(rng.standard_normal(200_000).astype(np.float32) + 2, rng.standard_normal(2_000_000).astype(np.float32))
    assert eer(curve) == pytest.approx(norm.cdf(-1), abs=2e-3)
    assert convex_hull(curve)[0].dtype == np.int64


@pytest.mark.parametrize(("targets", "nontargets", "named"), [([], [1], "no target"), ([1], [], "no nontarget")])
def test_roc_one_kind_missing_raises(targets, nontargets, named):
    with pytest.raises(ScoringError, match=named):
        roc(targets, nontargets)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_roc_score_not_finite_raises_with_count(bad):
    with pytest.raises(ScoringError, match="1 of 3 nontarget scores"):
        roc([1.0], [0.0, bad, 1.0])


@pytest.mark.parametrize("prior", [0.0, 1.0, -0.1, 1.5, np.nan])
def test_dcf_prior_outside_the_open_unit_interval_raises(prior):
    for metric in (min_dcf, act_dcf):
        with pytest.raises(ScoringError, match="prior"):
            metric(roc([1.0], [0.0]), prior)
