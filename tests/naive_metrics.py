"""Detection metrics trial by trial, written from their definitions: slow and plain, to compare with."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction


def sweep(targets, nontargets):
    """(threshold, P_miss, P_fa) at every threshold, counted one trial at a time."""
    for threshold in [*sorted({*targets, *nontargets}), float("inf")]:
        misses = sum(1 for score in targets if not score >= threshold)
        false_alarms = sum(1 for score in nontargets if score >= threshold)
        yield threshold, Fraction(misses, len(targets)), Fraction(false_alarms, len(nontargets))


def eer(targets, nontargets):
    """The hull's EER without a hull: the best mixture of two operating points that errs equally often."""
    points = {(p_miss, p_fa) for _, p_miss, p_fa in sweep(targets, nontargets)}
    best = [p_miss for p_miss, p_fa in points if p_miss == p_fa]
    for (m1, f1), (m2, f2) in itertools.combinations(points, 2):
        if (m1 - f1) * (m2 - f2) < 0:
            weight = (m2 - f2) / ((m2 - f2) - (m1 - f1))
            best.append(weight * m1 + (1 - weight) * m2)
    return float(min(best))


def dcf(p_miss, p_fa, prior):
    """Normalised cost with C_miss = C_fa = 1."""
    return float(prior * p_miss + (1 - prior) * p_fa) / min(prior, 1 - prior)


def min_dcf(targets, nontargets, prior):
    return min(dcf(p_miss, p_fa, prior) for _, p_miss, p_fa in sweep(targets, nontargets))


def act_dcf(targets, nontargets, prior):
    threshold = math.log((1 - prior) / prior)
    p_miss = Fraction(sum(1 for score in targets if score < threshold), len(targets))
    p_fa = Fraction(sum(1 for score in nontargets if score >= threshold), len(nontargets))
    return dcf(p_miss, p_fa, prior)


def bits(x):
    """log2(1 + e^x)."""
    return (max(x, 0) + math.log1p(math.exp(-abs(x)))) / math.log(2)


def cllr(targets, nontargets):
    missed, accepted = (math.fsum(map(bits, scores)) for scores in ([-s for s in targets], nontargets))
    return (missed / len(targets) + accepted / len(nontargets)) / 2


def min_cllr(targets, nontargets):
    """Cllr of the scores after pool adjacent violators: equal scores are one pool, then pools with too many targets
    join those above them."""
    pools: list[list[int]] = []
    for score in sorted({*targets, *nontargets}):
        pools.append([list(targets).count(score), list(nontargets).count(score)])
        while len(pools) > 1 and Fraction(pools[-2][0], sum(pools[-2])) >= Fraction(pools[-1][0], sum(pools[-1])):
            hits, others = pools.pop()
            pools[-1] = [pools[-1][0] + hits, pools[-1][1] + others]
    cost = 0.0
    for hits, others in pools:
        if hits and others:  # else the ratio is infinite, and right
            ratio = math.log(hits / len(targets)) - math.log(others / len(nontargets))
            cost += hits * bits(-ratio) / len(targets) + others * bits(ratio) / len(nontargets)
    return cost / 2
