"""Detection metrics against closed forms, a brute-force sweep and an independent isotonic regression."""

from __future__ import annotations

import itertools

import naive_metrics as naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import isotonic_regression
from scipy.stats import norm
from sklearn.isotonic import IsotonicRegression

from vidperson.errors import ScoringError
from vidperson.metrics import (
    act_dcf,
    bayes_threshold,
    cllr,
    convex_hull,
    det_points,
    eer,
    eer_simple,
    min_cllr,
    min_dcf,
    normalised_dcf,
    precision_recall_break_even,
    primary_cost,
    primary_priors,
    roc,
)

score_lists = st.lists(st.integers(-6, 6), min_size=1, max_size=25)
priors = st.floats(0.001, 0.999)


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
    thresholds, p_miss, p_fa = zip(*naive.sweep(targets, nontargets), strict=True)
    misses, false_alarms = roc(targets, nontargets).errors_at(thresholds)
    assert misses.tolist() == [p * len(targets) for p in p_miss]
    assert false_alarms.tolist() == [p * len(nontargets) for p in p_fa]


@given(score_lists, score_lists)
def test_corners_scores_with_ties_are_the_points_that_none_beats_and_both_ends(targets, nontargets):
    points = {(int(m * len(targets)), int(f * len(nontargets))) for _, m, f in naive.sweep(targets, nontargets)}
    beaten = {(m, f) for m, f in points for n, g in points if n <= m and g <= f and (n, g) != (m, f)}
    ends = {(0, len(nontargets)), (len(targets), 0)}
    misses, false_alarms = (counts.tolist() for counts in roc(targets, nontargets).corners)
    assert misses == sorted(misses) and false_alarms == sorted(false_alarms, reverse=True)
    corners = list(zip(misses, false_alarms, strict=True))
    assert len(corners) == len(set(corners)) and set(corners) == (points - beaten) | ends


@settings(deadline=None)
@given(score_lists, score_lists)
def test_convex_hull_scores_with_ties_equals_isotonic_regression(targets, nontargets):
    misses, false_alarms = convex_hull(roc(targets, nontargets))
    assert (misses.tolist(), false_alarms.tolist()) == hull_by_pav(targets, nontargets)


@settings(deadline=None)
@given(score_lists, score_lists)
def test_eer_scores_with_ties_equals_best_mixture_of_operating_points(targets, nontargets):
    assert eer(roc(targets, nontargets)) == pytest.approx(naive.eer(targets, nontargets), abs=1e-12)


@given(score_lists, score_lists, priors)
def test_dcf_scores_with_ties_equals_brute_force_sweep(targets, nontargets, prior):
    curve = roc(targets, nontargets)
    assert min_dcf(curve, prior) == pytest.approx(naive.min_dcf(targets, nontargets, prior), abs=1e-12)
    assert act_dcf(curve, prior) == pytest.approx(naive.act_dcf(targets, nontargets, prior), abs=1e-12)


@pytest.mark.parametrize(("num_targets", "num_nontargets"), [(200, 90_000), (40_000, 50_000), (60_000, 9000)])
@pytest.mark.parametrize("decimals", [1, 3, 12])
def test_convex_hull_lists_of_many_blocks_equals_isotonic_regression(num_targets, num_nontargets, decimals):
    rng = np.random.default_rng(num_targets + decimals)
    targets = rng.normal(1, 1, num_targets).round(decimals)
    nontargets = rng.normal(0, 2, num_nontargets).round(decimals)
    misses, false_alarms = convex_hull(roc(targets, nontargets))
    assert (misses.tolist(), false_alarms.tolist()) == hull_by_pav(targets, nontargets)


def crossing(points):
    """P_miss where it meets P_fa on the line through all points in order."""
    for (m1, f1), (m2, f2) in itertools.pairwise(points):
        if m1 - f1 <= 0 <= m2 - f2:
            return float(m1 + (m2 - m1) * (f1 - m1) / ((m2 - f2) - (m1 - f1)))
    raise AssertionError("no crossing")


@given(score_lists, score_lists)
def test_eer_simple_scores_with_ties_equals_walk_along_the_roc_and_is_not_below_the_hulls(targets, nontargets):
    curve = roc(targets, nontargets)
    expected = crossing([(m, f) for _, m, f in naive.sweep(targets, nontargets)])
    assert eer_simple(curve) == pytest.approx(expected, abs=1e-12)
    assert eer_simple(curve) >= eer(curve) - 1e-12


@given(score_lists, score_lists)
def test_precision_recall_break_even_scores_with_ties_equals_walk_along_the_roc(targets, nontargets):
    counts = [(m * len(targets), f * len(nontargets)) for _, m, f in naive.sweep(targets, nontargets)]
    found = precision_recall_break_even(roc(targets, nontargets))
    assert found == pytest.approx(1 - crossing(counts) / len(targets), abs=1e-12)


def test_precision_recall_break_even_without_ties_accepts_as_many_as_there_are_targets():
    rng = np.random.default_rng(5)
    targets, nontargets = rng.normal(1, 1, 50), rng.normal(0, 1, 300)
    accepted = np.sort(np.concatenate([targets, nontargets]))[-50:]
    found = precision_recall_break_even(roc(targets, nontargets))
    assert found == pytest.approx(np.isin(targets, accepted).mean())


@settings(deadline=None)
@given(score_lists, score_lists)
def test_cllr_and_min_cllr_scores_with_ties_equal_means_over_trials_and_those_of_isotonic_llrs(targets, nontargets):
    curve = roc(targets, nontargets)
    assert cllr(curve) == pytest.approx(naive.cllr(targets, nontargets), rel=1e-12)
    assert min_cllr(curve) == pytest.approx(naive.min_cllr(targets, nontargets), abs=1e-12)
    assert min_cllr(curve) <= cllr(curve) + 1e-12
    label = np.repeat([1.0, 0.0], [len(targets), len(nontargets)])
    shares = IsotonicRegression().fit_transform(np.array(targets + nontargets, float), label)
    with np.errstate(divide="ignore"):
        ratios = np.log(shares) - np.log1p(-np.minimum(shares, 1)) - np.log(len(targets) / len(nontargets))
    best = naive.cllr(ratios[label == 1], ratios[label == 0])
    assert min_cllr(curve) == pytest.approx(best, abs=1e-12)


def test_cllr_known_cases():
    assert cllr(roc([0.0], [0.0])) == 1 == min_cllr(roc([0.0], [0.0]))
    assert min_cllr(roc([2.0, 3.0], [1.0])) == 0
    assert cllr(roc([-5000.0], [5000.0])) == pytest.approx(5000 / np.log(2))
    assert cllr(roc([5000.0], [-5000.0])) == 0


@given(score_lists, score_lists, priors, st.floats(0.1, 20), st.floats(0.1, 20))
def test_dcf_any_costs_equals_unit_costs_at_the_effective_prior(targets, nontargets, prior, c_miss, c_fa):
    curve = roc(targets, nontargets)
    effective = prior * c_miss / (prior * c_miss + (1 - prior) * c_fa)
    threshold = bayes_threshold(prior, c_miss, c_fa)
    assert threshold == pytest.approx(bayes_threshold(effective), abs=1e-9)
    assert min_dcf(curve, prior, c_miss, c_fa) == pytest.approx(min_dcf(curve, effective), abs=1e-9)
    misses, false_alarms = curve.errors_at(threshold)
    expected = normalised_dcf(misses / len(targets), false_alarms / len(nontargets), prior, c_miss, c_fa)
    assert act_dcf(curve, prior, c_miss, c_fa) == expected


@pytest.mark.parametrize(("c_miss", "c_fa"), [(0, 1), (1, -1), (np.nan, 1), (1, np.inf)])
def test_dcf_cost_that_is_not_positive_raises(c_miss, c_fa):
    for metric in (min_dcf, act_dcf):
        with pytest.raises(ScoringError, match="cost C_"):
            metric(roc([1.0], [0.0]), 0.1, c_miss, c_fa)


@given(score_lists, score_lists)
def test_det_points_short_lists_are_the_whole_roc(targets, nontargets):
    found = list(zip(*det_points(roc(targets, nontargets)), strict=True))
    assert found == [(float(m), float(f)) for _, m, f in naive.sweep(targets, nontargets)]


@pytest.mark.parametrize(("num_targets", "num_nontargets"), [(1, 5000), (5000, 1), (800, 30_000), (30_000, 40_000)])
def test_det_points_long_lists_are_bounded_exact_and_begin_with_the_first_errors(num_targets, num_nontargets):
    rng = np.random.default_rng(1)
    targets, nontargets = rng.normal(2, 1, num_targets).round(3), rng.normal(0, 1, num_nontargets).round(3)
    p_miss, p_fa = det_points(roc(targets, nontargets), resolution=100)
    assert len(p_miss) <= 202 and (np.diff(p_miss) >= 0).all() and (np.diff(p_fa) <= 0).all()
    assert (p_miss[0], p_fa[0], p_miss[-1], p_fa[-1]) == (0, 1, 1, 0)
    thresholds = np.append(np.unique(np.concatenate([targets, nontargets])), np.inf)
    possible = {(float(np.mean(targets < t)), 1 - float(np.mean(nontargets < t))) for t in thresholds}
    assert all(any(abs(m - a) + abs(f - b) < 1e-12 for a, b in possible) for m, f in zip(p_miss, p_fa, strict=True))
    # The best scored non-target is the first false alarm of the curve; the worst target its first miss.
    assert p_fa[p_fa > 0].min() == pytest.approx(np.mean(nontargets == nontargets.max()))
    assert p_miss[p_miss > 0].min() == pytest.approx(np.mean(targets == targets.min()))


def test_primary_priors_definitions_and_unknown_one():
    assert primary_priors("sre19") == (0.05,) and primary_priors("sre21") == (0.01, 0.05)
    with pytest.raises(ScoringError, match="no primary cost 'sre99'; valid: sre19 sre21"):
        primary_priors("sre99")


trial_lists = st.lists(st.tuples(st.integers(-4, 6), st.booleans(), st.integers(0, 3)), min_size=2, max_size=30)


@given(trial_lists, st.randoms(use_true_random=False))
def test_primary_cost_partitions_equals_naive_average_in_any_order(trials, random):
    if len({target for _, target, _ in trials}) < 2:
        return

    def naive(threshold, prior):
        p_miss, p_fa = [], []
        for partition in range(4):
            tar = [score for score, target, p in trials if target and p == partition]
            non = [score for score, target, p in trials if not target and p == partition]
            if tar:
                p_miss.append(sum(score < threshold for score in tar) / len(tar))
            if non:
                p_fa.append(sum(score >= threshold for score in non) / len(non))
        beta = (1 - prior) / prior
        return sum(p_miss) / len(p_miss) + beta * sum(p_fa) / len(p_fa)

    thresholds = [*sorted({score for score, _, _ in trials}), np.inf]
    expected_min = sum(min(naive(t, prior) for t in thresholds) for prior in (0.01, 0.05)) / 2
    expected_act = sum(naive(np.log((1 - prior) / prior), prior) for prior in (0.01, 0.05)) / 2
    shuffled = trials[:]
    random.shuffle(shuffled)
    for order in (trials, shuffled):
        found = primary_cost(*list(zip(*order, strict=True))[:2], (0.01, 0.05), list(zip(*order, strict=True))[2])
        assert (found.min, found.act) == pytest.approx((expected_min, expected_act), abs=1e-9)


@given(score_lists, score_lists)
def test_primary_cost_one_partition_or_none_is_the_mean_dcf(targets, nontargets):
    scores, is_target = [*targets, *nontargets], [True] * len(targets) + [False] * len(nontargets)
    curve = roc(targets, nontargets)
    for partitions in (None, [7] * len(scores)):
        found = primary_cost(scores, is_target, (0.01, 0.05), partitions)
        assert found.min == pytest.approx((min_dcf(curve, 0.01) + min_dcf(curve, 0.05)) / 2, abs=1e-9)
        assert found.act == pytest.approx((act_dcf(curve, 0.01) + act_dcf(curve, 0.05)) / 2, abs=1e-9)


@given(score_lists, score_lists, priors)
def test_metrics_increasing_map_of_scores_changes_nothing_but_act_dcf(targets, nontargets, prior):
    plain = roc(targets, nontargets)
    mapped = roc(np.exp(np.array(targets) / 3) - 40, np.exp(np.array(nontargets) / 3) - 40)
    assert min_dcf(mapped, prior) == min_dcf(plain, prior)
    for metric in (eer, eer_simple, min_cllr, precision_recall_break_even):
        assert metric(mapped) == metric(plain)


@given(score_lists, score_lists, st.randoms(use_true_random=False))
def test_metrics_permuted_scores_give_the_same(targets, nontargets, random):
    before = roc(targets, nontargets)
    shuffled = targets[:], nontargets[:]
    for scores in shuffled:
        random.shuffle(scores)
    after = roc(*shuffled)
    for metric in (eer, eer_simple, cllr, min_cllr, precision_recall_break_even, lambda curve: act_dcf(curve, 0.1)):
        assert metric(after) == metric(before)


def test_metrics_gaussian_log_likelihood_ratios_match_closed_form():
    # Scores are LLRs exactly when targets are N(d^2/2, d^2) and non-targets N(-d^2/2, d^2). Quantiles instead
    # of random draws leave no sampling noise.
    d, n = 2.5, 400_000
    quantiles = norm.ppf((np.arange(n) + 0.5) / n)
    curve = roc(d * quantiles + d * d / 2, d * quantiles - d * d / 2)
    assert eer(curve) == pytest.approx(norm.cdf(-d / 2), abs=2e-5)
    assert eer_simple(curve) == pytest.approx(norm.cdf(-d / 2), abs=2e-5)
    expected, _ = quad(lambda x: norm.pdf(x) * naive.bits(-(d * x + d * d / 2)), -12, 12)
    assert cllr(curve) == pytest.approx(expected, abs=1e-5)
    assert min_cllr(curve) == pytest.approx(expected, abs=2e-5)
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
