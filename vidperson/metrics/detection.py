"""How well scores tell targets from non-targets: ROC, EER and detection cost, computed exactly.

Sources: N. Brümmer and E. de Villiers, "The BOSARIS Toolkit: theory, algorithms and code for surviving the
new DCF" (2011), for the ROC convex hull, its EER and the normalised cost; NIST, "2019 Speaker Recognition
Evaluation Plan", for the detection cost and its threshold.

A trial is accepted when its score is at least the threshold, so that equal scores always share a decision.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vidperson.errors import ScoringError

C_MISS = 1.0
C_FA = 1.0
NORMALISATION = "min(P * C_miss, (1 - P) * C_fa)"

Counts = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Misses and false alarms, (M,) int64 each, of M operating points."""

# Scores looked at in one go: small enough for the processor's caches, large enough to hide the loop.
_BLOCK = 8192
_BOX = 32


@dataclass(frozen=True)
class Roc:
    """The errors at every threshold, as the sorted scores that they follow from.

    targets: (T,) float64 ascending, finite. nontargets: (N,) likewise.
    """

    targets: NDArray[np.float64]
    nontargets: NDArray[np.float64]

    @property
    def num_targets(self) -> int:
        return len(self.targets)

    @property
    def num_nontargets(self) -> int:
        return len(self.nontargets)

    def errors_at(self, thresholds: ArrayLike) -> Counts:
        """Targets below each of (M,) float64 thresholds, and non-targets not below it; (M,) int64 each."""
        misses = np.searchsorted(self.targets, thresholds, side="left")
        false_alarms = self.num_nontargets - np.searchsorted(self.nontargets, thresholds, side="left")
        return np.asarray(misses, dtype=np.int64), np.asarray(false_alarms, dtype=np.int64)

    @cached_property
    def corners(self) -> Counts:
        """The operating points that no other one beats in both errors; misses ascend, false alarms descend.

        That is where, as the threshold rises, false alarms have just fallen and misses are about to rise;
        with accepting all and rejecting all at the ends.
        """
        scores = np.unique(self.targets)
        misses, false_alarms = self.errors_at(scores)
        fallen = false_alarms < np.append(self.num_nontargets, false_alarms[:-1])
        return _with_ends(misses[fallen], false_alarms[fallen], self)

    @cached_property
    def hull(self) -> Counts:
        """See :func:`convex_hull`."""
        return _lower_hull(self)


def roc(targets: ArrayLike, nontargets: ArrayLike) -> Roc:
    """The ROC of (T,) target and (N,) non-target scores; memory and time as for sorting T + N numbers.

    Raises ScoringError when one of them is empty or has a score that is not finite.
    """
    return Roc(_sorted("target", targets), _sorted("nontarget", nontargets))


def _sorted(name: str, values: ArrayLike) -> NDArray[np.float64]:
    scores = np.sort(np.asarray(values, dtype=np.float64), axis=None)
    if not len(scores):
        raise ScoringError(f"no {name} scores: both target and non-target trials are needed for a detection error")
    if not (math.isfinite(scores[0]) and math.isfinite(scores[-1])):  # NaN is sorted behind everything
        broken = np.count_nonzero(~np.isfinite(scores))
        raise ScoringError(f"{broken} of {len(scores)} {name} scores are NaN or infinite")
    return scores


def _with_ends(misses: NDArray[np.int64], false_alarms: NDArray[np.int64], curve: Roc) -> Counts:
    """The points with accepting all in front of them and rejecting all behind."""
    return (
        np.concatenate([[0], misses, [curve.num_targets]]),
        np.concatenate([[curve.num_nontargets], false_alarms, [0]]),
    )


def _lower_hull(curve: Roc) -> Counts:
    """Vertices of the lower convex hull. The thresholds to look at are the scores of the rarer kind of trial.

    The hull of every 32nd point is a bound. Between two of them lies a box of points, none of which has fewer
    misses than the first or fewer false alarms than the second; where even that is not below the bound, the box
    holds no vertex. On large lists this leaves few points.
    """
    if curve.num_targets > curve.num_nontargets:
        # Turned round, non-targets play the targets' part, false alarms the misses', and the order is reversed.
        mirrored = (np.ascontiguousarray(-scores[::-1]) for scores in (curve.nontargets, curve.targets))
        false_alarms, misses = _lower_hull(Roc(*mirrored))
        return misses[::-1], false_alarms[::-1]
    targets, nontargets = curve.targets, curve.nontargets
    misses, false_alarms = curve.errors_at(targets[::_BOX])
    bound = _chain(*_prune(*_with_ends(misses, false_alarms, curve)))
    at_best = np.interp(np.append(false_alarms[1:], 0), bound[1][::-1], bound[0][::-1])
    hopeful = misses < at_best + 0.5  # half a trial covers the rounding of the interpolation

    points: list[Counts] = []
    for begin in range(0, len(targets), _BLOCK):
        scores = targets[begin : begin + _BLOCK]
        new = np.append(begin == 0 or scores[0] > targets[begin - 1], scores[1:] > scores[:-1])
        boxes = hopeful[begin // _BOX : (begin + _BLOCK) // _BOX]
        ranks = np.flatnonzero(np.repeat(boxes, _BOX)[: len(scores)] & new)
        if len(ranks):
            low, high = np.searchsorted(nontargets, scores[ranks[[0, -1]]])
            rejected = low + np.searchsorted(nontargets[low:high], scores[ranks])
            points.append(_prune(begin + ranks, len(nontargets) - rejected))
    misses, false_alarms = (np.concatenate([part[i] for part in points]) for i in (0, 1))
    return _chain(*_prune(*_with_ends(misses, false_alarms, curve)))


def _prune(misses: NDArray[np.int64], false_alarms: NDArray[np.int64]) -> Counts:
    """Drop points that cannot be vertices: those not below the line between two others, near ones first.

    A point that was dropped may still judge others: it is a point of the ROC all the same.
    """
    before = math.inf
    while len(misses) < 0.9 * before:
        before = len(misses)
        for stride in (1, 1, 2, 4, 16):
            if len(misses) <= 2 * stride:
                continue
            x, y = false_alarms, misses
            x0, x1, x2 = x[: -2 * stride], x[stride:-stride], x[2 * stride :]
            y0, y1, y2 = y[: -2 * stride], y[stride:-stride], y[2 * stride :]
            keep = np.ones(len(misses), dtype=bool)
            keep[stride:-stride] = (x0 - x1) * (y2 - y0) > (x0 - x2) * (y1 - y0)
            misses, false_alarms = misses[keep], false_alarms[keep]
    return misses, false_alarms


def _chain(misses: NDArray[np.int64], false_alarms: NDArray[np.int64]) -> Counts:
    """The vertices of the lower convex hull, by A. M. Andrew's monotone chain (1979)."""
    hull: list[tuple[int, int]] = []
    for x, y in zip(false_alarms.tolist(), misses.tolist(), strict=True):
        # From right to left, each edge must be steeper than the one before it.
        while len(hull) > 1 and not _bends(hull[-2], hull[-1], (x, y)):
            hull.pop()
        if not hull or hull[-1] != (x, y):
            hull.append((x, y))
    points = np.array(hull, dtype=np.int64)
    return points[:, 1], points[:, 0]


def _bends(first: tuple[int, int], middle: tuple[int, int], last: tuple[int, int]) -> bool:
    """Whether ``middle`` lies strictly below the line from ``first`` to ``last``."""
    (x0, y0), (x1, y1), (x2, y2) = first, middle, last
    return (x0 - x1) * (y2 - y0) > (x0 - x2) * (y1 - y0)


def convex_hull(curve: Roc) -> Counts:
    """Misses and false alarms, (M,) int64 each, at the vertices of the ROC's lower convex hull.

    This is the ROC of the scores after isotonic recalibration (pool adjacent violators): the best that any
    non-decreasing map of the scores can do. Exact: whole numbers throughout.
    """
    return curve.hull


def eer(curve: Roc) -> float:
    """Equal error rate, 0..1: where the convex hull of the ROC crosses P_miss = P_fa (BOSARIS)."""
    misses, false_alarms = convex_hull(curve)
    p_miss, p_fa = misses / curve.num_targets, false_alarms / curve.num_nontargets
    gap = p_miss - p_fa  # ascends from -1 to 1
    after = int(np.argmax(gap >= 0))
    before = after - 1
    share = -gap[before] / (gap[after] - gap[before])
    return float(p_miss[before] + share * (p_miss[after] - p_miss[before]))


def eer_simple(curve: Roc) -> float:
    """Equal error rate, 0..1, read off the ROC itself, as most tools do: never below :func:`eer`.

    Where P_miss and P_fa change sides between two thresholds, both are interpolated linearly.
    """
    return _crossing(curve, curve.num_nontargets, curve.num_targets) / curve.num_targets


def eer_point(curve: Roc) -> float:
    """Equal error rate, 0..1, as scripts around ``sklearn.metrics.roc_curve`` read it, AVCleanse's among them.

    Of the points of the ROC, less those midway on a line between their neighbours (``drop_intermediate``), the one
    where P_miss and P_fa differ least, the highest threshold of equal ones; and there the larger of the two.
    """
    above = _sides(curve, curve.num_nontargets, curve.num_targets)[1]
    width = _BOX
    while True:
        false_alarms, hits, kept = _points_around(curve, above, width)
        p_fa = false_alarms / curve.num_nontargets
        p_miss = 1 - hits / curve.num_targets  # rounded as there: it decides between equal ones
        sides = p_miss[kept] >= p_fa[kept], p_miss[kept] <= p_fa[kept]
        if all(map(np.any, sides)):
            gap = np.where(kept, np.abs(p_miss - p_fa), np.inf)
            at = int(np.argmin(gap))
            return float(max(p_miss[at], p_fa[at]))
        width *= _BOX


def _points_around(curve: Roc, score: float, width: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]:
    """False alarms and hits, by falling thresholds, at ``width`` scores of each kind on both sides of a score.

    The third array is true at those that are certain not to be midway between their neighbours; the point where
    nothing is accepted is one of them, and no neighbour.
    """
    low, high = -math.inf, math.inf
    near = []
    for scores in (curve.targets, curve.nontargets):
        at = int(np.searchsorted(scores, score))
        near.append(scores[max(0, at - width) : at + width])
        if at > width:
            low = max(low, float(near[-1][0]))
        if at + width < len(scores):
            high = min(high, float(near[-1][-1]))
    thresholds = np.unique(np.concatenate(near))[::-1]
    misses, false_alarms = curve.errors_at(thresholds[(thresholds >= low) & (thresholds <= high)])
    hits = curve.num_targets - misses
    bends = (np.diff(false_alarms, 2) != 0) | (np.diff(hits, 2) != 0)
    kept = np.concatenate([[high == math.inf], bends, [low == -math.inf]])[: len(hits)]
    if high == math.inf:
        hits, false_alarms, kept = (
            np.insert(array, 0, value) for array, value in ((hits, 0), (false_alarms, 0), (kept, True))
        )
    return false_alarms, hits, kept


def precision_recall_break_even(curve: Roc) -> float:
    """Precision and recall, 0..1, where they are equal: as many trials are accepted as there are targets.

    Among equal scores at that place, targets are accepted in proportion to their number.
    """
    return 1 - _crossing(curve, 1, 1) / curve.num_targets


def _crossing(curve: Roc, miss_weight: int, fa_weight: int) -> float:
    """Misses, interpolated, where ``miss_weight * misses`` equals ``fa_weight * false_alarms``."""
    sides = _sides(curve, miss_weight, fa_weight)
    misses, false_alarms = ([int(count) for count in counts] for counts in curve.errors_at(sides))
    below, above = (miss_weight * miss - fa_weight * fa for miss, fa in zip(misses, false_alarms, strict=True))
    return misses[0] + (misses[1] - misses[0]) * -below / (above - below)


def _sides(curve: Roc, miss_weight: int, fa_weight: int) -> tuple[float, float]:
    """The highest threshold where ``miss_weight * misses`` is below ``fa_weight * false_alarms``, and the next one.

    Of the scores, and -inf and inf.
    """

    def gap(threshold: float) -> int:
        misses, false_alarms = (int(count) for count in curve.errors_at(threshold))
        return miss_weight * misses - fa_weight * false_alarms

    both = curve.targets, curve.nontargets
    firsts = [bisect_left(range(len(s)), 0, key=lambda i, s=s: gap(float(s[i]))) for s in both]  # type: ignore[misc]
    above = min(float(s[i]) if i < len(s) else math.inf for s, i in zip(both, firsts, strict=True))
    below = max(float(s[i - 1]) if i else -math.inf for s, i in zip(both, firsts, strict=True))
    return below, above


def det_points(curve: Roc, resolution: int = 500) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """P_miss and P_fa, (M,) float64 each, of operating points for a DET curve; P_miss ascends from 0 to 1.

    Up to ``resolution`` trials give the whole ROC. More give at most 2 * ``resolution`` + 2 points of it, each
    of them exact, evenly spaced along both axes of a DET plot (normal deviates), from the first error on.
    """
    if curve.num_targets + curve.num_nontargets <= resolution:
        thresholds = np.union1d(curve.targets, curve.nontargets)
    else:
        # A target's score as the threshold rejects all targets below it; one just above a non-target's the latter.
        targets = curve.targets[_evenly_rare(curve.num_targets, resolution)]
        nontargets = curve.nontargets[_evenly_rare(curve.num_nontargets, resolution)]
        lowest = min(curve.targets[0], curve.nontargets[0])
        thresholds = np.unique(np.concatenate([[lowest], targets, np.nextafter(nontargets, np.inf)]))
    misses, false_alarms = curve.errors_at(np.append(thresholds, np.inf))
    return misses / curve.num_targets, false_alarms / curve.num_nontargets


def _evenly_rare(count: int, resolution: int) -> NDArray[np.int64]:
    """Up to ``resolution`` of the ranks 0..count - 1, the extreme ones included, even in normal deviates."""
    normal = NormalDist()
    edge = normal.inv_cdf(1 - 0.5 / count)
    ranks = count * np.array([normal.cdf(deviate) for deviate in np.linspace(-edge, edge, resolution)])
    return np.unique(np.clip(np.floor(ranks), 0, count - 1)).astype(np.int64)


def normalised_dcf(
    p_miss: ArrayLike, p_fa: ArrayLike, prior: float, c_miss: float = C_MISS, c_fa: float = C_FA
) -> NDArray[np.float64]:
    """Detection cost over that of the better blind decision.

    DCF(P) = (P C_miss P_miss + (1 - P) C_fa P_fa) / min(P C_miss, (1 - P) C_fa)
    (NIST SRE19 evaluation plan, detection cost). ``p_miss`` and ``p_fa``: arrays of the same shape, 0..1.

    Raises ScoringError for a prior that is not strictly between 0 and 1, or a cost that is not above 0.
    """
    check_prior(prior)
    check_costs(c_miss, c_fa)
    cost = prior * c_miss * np.asarray(p_miss, np.float64) + (1 - prior) * c_fa * np.asarray(p_fa, np.float64)
    return np.asarray(cost / min(prior * c_miss, (1 - prior) * c_fa), dtype=np.float64)


def min_dcf(curve: Roc, prior: float, c_miss: float = C_MISS, c_fa: float = C_FA) -> float:
    """Smallest normalised cost over all thresholds, accepting all and rejecting all included; 0..1."""
    misses, false_alarms = convex_hull(curve)  # a linear cost is smallest at a vertex
    p_miss, p_fa = misses / curve.num_targets, false_alarms / curve.num_nontargets
    return float(normalised_dcf(p_miss, p_fa, prior, c_miss, c_fa).min())


def act_dcf(curve: Roc, prior: float, c_miss: float = C_MISS, c_fa: float = C_FA) -> float:
    """Normalised cost of the scores as natural log-likelihood ratios, decided at :func:`bayes_threshold`."""
    misses, false_alarms = curve.errors_at(bayes_threshold(prior, c_miss, c_fa))
    p_miss, p_fa = misses / curve.num_targets, false_alarms / curve.num_nontargets
    return float(normalised_dcf(p_miss, p_fa, prior, c_miss, c_fa))


def bayes_threshold(prior: float, c_miss: float = C_MISS, c_fa: float = C_FA) -> float:
    """The log-likelihood ratio from which accepting is cheaper: ln((1 - P) C_fa / (P C_miss)).

    Raises ScoringError for a prior that is not strictly between 0 and 1, or a cost that is not above 0.
    """
    check_prior(prior)
    check_costs(c_miss, c_fa)
    return float(np.log1p(-prior) - np.log(prior) + np.log(c_fa / c_miss))


def check_prior(prior: float) -> None:
    """Raises ScoringError for a prior that is not strictly between 0 and 1."""
    if not 0 < prior < 1:
        raise ScoringError(f"expected a target prior strictly between 0 and 1, found {prior:g}")


def check_costs(c_miss: float, c_fa: float) -> None:
    """Raises ScoringError for a cost that is not finite and above 0."""
    for name, cost in (("C_miss", c_miss), ("C_fa", c_fa)):
        if not 0 < cost < math.inf:
            raise ScoringError(f"expected a finite cost {name} above 0, found {cost:g}")
