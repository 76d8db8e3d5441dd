"""How good a probability is, here that a segment shows nobody who is enrolled.

The logarithmic score: I. J. Good, "Rational Decisions", J. R. Statist. Soc. B 14 (1952); its mean is the cross-entropy.
G. W. Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78 (1950). The
minimum by pool adjacent violators, as Cllr has one: N. Brümmer and J. du Preez, Computer Speech and Language 20 (2006).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vidperson.metrics.detection import convex_hull, roc

SMALLEST = 1e-12
"""Probabilities nearer to 0 or 1 count as this near, so that one wrong certainty costs 40 bits and not all."""


def cross_entropy(true: NDArray[np.float64], false: NDArray[np.float64]) -> float:
    """Mean cost in bits; 0 is perfect.

    true: (M,) the probability that was given to the event where it happened. false: (N,) where it did not.
    """
    bits = np.concatenate([-np.log2(_inside(true)), -np.log2(1 - _inside(false))])
    return float(bits.mean())


def constant_cross_entropy(num_true: int, num_false: int) -> float:
    """Bits that the share of true cases costs as a probability for all: what a useful probability stays below."""
    share = num_true / (num_true + num_false)
    return cross_entropy(np.full(num_true, share), np.full(num_false, share))


def min_cross_entropy(true: NDArray[np.float64], false: NDArray[np.float64]) -> float:
    """Bits after the best non-decreasing map of the probabilities; what exceeds it is lost by calibration.

    Raises ScoringError where one of them is empty.
    """
    misses, false_alarms = convex_hull(roc(true, false))
    hits, others = np.diff(misses), -np.diff(false_alarms)
    both = (hits > 0) & (others > 0)  # pools of one kind cost nothing
    hits, others = hits[both], others[both]
    bits = hits * np.log2(1 + others / hits) + others * np.log2(1 + hits / others)
    return float(bits.sum()) / (len(true) + len(false))


def brier(true: NDArray[np.float64], false: NDArray[np.float64]) -> float:
    """Mean squared distance of the probabilities from what happened, 0..1."""
    return float(np.mean(np.concatenate([1 - true, false]) ** 2))


def _inside(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(values, SMALLEST, 1 - SMALLEST)
