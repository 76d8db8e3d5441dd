"""How good scores are as log-likelihood ratios, over all priors and costs at once.

Source: N. Brümmer and J. du Preez, "Application-independent evaluation of speaker detection", Computer Speech and
Language 20 (2006), for Cllr and for its minimum by pool adjacent violators.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vidperson.metrics.detection import Roc, convex_hull

_BLOCK = 65536


def cllr(curve: Roc) -> float:
    """Cost, in bits, of the scores as natural log-likelihood ratios; 0 is perfect, 1 what a constant 0 costs.

    Cllr = (mean of log2(1 + e^-s) over targets + mean of log2(1 + e^s) over non-targets) / 2.
    """
    return (_mean_bits(curve.targets, -1) + _mean_bits(curve.nontargets, 1)) / 2


def _mean_bits(scores: NDArray[np.float64], sign: int) -> float:
    """Mean of log2(1 + e^(sign * s)), in blocks so that no second list of this length is needed."""
    sums = []
    for begin in range(0, len(scores), _BLOCK):
        block = scores[begin : begin + _BLOCK]
        sums.append(float(np.sum(np.maximum(sign * block, 0) + np.log1p(np.exp(-np.abs(block))))))
    return math.fsum(sums) / len(scores) / math.log(2)


def min_cllr(curve: Roc) -> float:
    """The Cllr, in bits, after the best non-decreasing map of the scores (pool adjacent violators); 0..1.

    Each edge of the ROC's convex hull is a pool; with m of T targets and f of N non-targets its log-likelihood
    ratio is ln((m / T) / (f / N)).
    """
    misses, false_alarms = convex_hull(curve)
    targets, nontargets = np.diff(misses) / curve.num_targets, -np.diff(false_alarms) / curve.num_nontargets
    both = (targets > 0) & (nontargets > 0)  # pools of one kind cost nothing
    targets, nontargets = targets[both], nontargets[both]
    bits = targets * np.log2(1 + nontargets / targets) + nontargets * np.log2(1 + targets / nontargets)
    return float(np.sum(bits)) / 2
