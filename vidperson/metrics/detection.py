"""How well scores tell targets from non-targets: ROC, EER and detection cost, computed exactly.

Sources: N. Brümmer and E. de Villiers, "The BOSARIS Toolkit: theory, algorithms and code for surviving the
new DCF" (2011), for the ROC convex hull, its EER and the normalised cost; NIST, "2019 Speaker Recognition
Evaluation Plan", for the detection cost and its threshold. Miss and false alarm both cost 1.

A trial is accepted when its score is at least the threshold, so that equal scores always share a decision.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vidperson.errors import ScoringError

C_MISS = 1.0
C_FA = 1.0
NORMALISATION = "min(P * C_miss, (1 - P) * C_fa)"


@dataclass(frozen=True)
class Roc:
    """Errors at every threshold that makes a difference.

    thresholds: (K + 1,) float64 ascending: the K distinct scores, then infinity.
    misses: (K + 1,) int64 targets below the threshold, ascending from 0 to ``num_targets``.
    false_alarms: (K + 1,) int64 non-targets not below it, descending from ``num_nontargets`` to 0.
    """

    thresholds: NDArray[np.float64]
    misses: NDArray[np.int64]
    false_alarms: NDArray[np.int64]

    @property
    def num_targets(self) -> int:
        return int(self.misses[-1])

    @property
    def num_nontargets(self) -> int:
        return int(self.false_alarms[0])


def _scores(name: str, values: ArrayLike) -> NDArray[np.float64]:
    scores = np.asarray(values, dtype=np.float64).ravel()
    if not len(scores):
        raise ScoringError(f"no {name} scores: both target and non-target trials are needed for a detection error")
    broken = np.count_nonzero(~np.isfinite(scores))
    if broken:
        raise ScoringError(f"{broken} of {len(scores)} {name} scores are NaN or infinite")
    return scores


def roc(targets: ArrayLike, nontargets: ArrayLike) -> Roc:
    """The ROC of (T,) target and (N,) non-target scores; memory and time as for sorting T + N numbers.

    Raises ScoringError when one of them is empty or has a score that is not finite.
    """
    tar, non = np.sort(_scores("target", targets)), np.sort(_scores("nontarget", nontargets))
    thresholds = np.union1d(tar, non)
    misses = np.searchsorted(tar, thresholds, side="left")
    false_alarms = len(non) - np.searchsorted(non, thresholds, side="left")
    return Roc(np.append(thresholds, np.inf), np.append(misses, len(tar)), np.append(false_alarms, 0))


def convex_hull(curve: Roc) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Misses and false alarms, (M,) int64 each, at the vertices of the ROC's lower convex hull.

    This is the ROC of the scores after isotonic recalibration (pool adjacent violators): the best that any
    non-decreasing map of the scores can do. Exact: whole numbers throughout.
    """
    misses, false_alarms = curve.misses, curve.false_alarms
    # Only where false alarms have just fallen and misses are about to rise can there be a vertex.
    entered = np.append(True, false_alarms[1:] < false_alarms[:-1])
    left = np.append(misses[1:] > misses[:-1], True)
    corners = np.flatnonzero(entered & left)
    hull: list[tuple[int, int]] = []
    for x, y in [
        (curve.num_nontargets, 0),
        *zip(false_alarms[corners].tolist(), misses[corners].tolist(), strict=True),
        (0, curve.num_targets),
    ]:
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


def eer(curve: Roc) -> float:
    """Equal error rate, 0..1: where the convex hull of the ROC crosses P_miss = P_fa (BOSARIS)."""
    misses, false_alarms = convex_hull(curve)
    p_miss, p_fa = misses / curve.num_targets, false_alarms / curve.num_nontargets
    gap = p_miss - p_fa  # ascends from -1 to 1
    after = int(np.argmax(gap >= 0))
    before = after - 1
    share = -gap[before] / (gap[after] - gap[before])
    return float(p_miss[before] + share * (p_miss[after] - p_miss[before]))


def normalised_dcf(p_miss: ArrayLike, p_fa: ArrayLike, prior: float) -> NDArray[np.float64]:
    """Detection cost over that of the better blind decision.

    DCF(P) = (P C_miss P_miss + (1 - P) C_fa P_fa) / min(P C_miss, (1 - P) C_fa), C_miss = C_fa = 1
    (NIST SRE19 evaluation plan, detection cost). ``p_miss`` and ``p_fa``: arrays of the same shape, 0..1.

    Raises ScoringError for a prior that is not strictly between 0 and 1.
    """
    check_prior(prior)
    cost = prior * C_MISS * np.asarray(p_miss, np.float64) + (1 - prior) * C_FA * np.asarray(p_fa, np.float64)
    return np.asarray(cost / min(prior * C_MISS, (1 - prior) * C_FA), dtype=np.float64)


def min_dcf(curve: Roc, prior: float) -> float:
    """Smallest normalised cost over all thresholds, accepting all and rejecting all included; 0..1."""
    p_miss, p_fa = curve.misses / curve.num_targets, curve.false_alarms / curve.num_nontargets
    return float(normalised_dcf(p_miss, p_fa, prior).min())


def act_dcf(curve: Roc, prior: float) -> float:
    """Normalised cost of the scores as natural log-likelihood ratios, decided at :func:`bayes_threshold`."""
    at = int(np.searchsorted(curve.thresholds, bayes_threshold(prior), side="left"))
    p_miss, p_fa = curve.misses[at] / curve.num_targets, curve.false_alarms[at] / curve.num_nontargets
    return float(normalised_dcf(p_miss, p_fa, prior))


def bayes_threshold(prior: float) -> float:
    """The log-likelihood ratio from which accepting is cheaper: -logit(P) = ln((1 - P) / P) at equal costs.

    Raises ScoringError for a prior that is not strictly between 0 and 1.
    """
    check_prior(prior)
    return float(np.log1p(-prior) - np.log(prior))


def check_prior(prior: float) -> None:
    """Raises ScoringError for a prior that is not strictly between 0 and 1."""
    if not 0 < prior < 1:
        raise ScoringError(f"expected a target prior strictly between 0 and 1, found {prior:g}")
