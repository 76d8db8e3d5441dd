"""When a segment shows none of the persons: the probability, and thresholds, by segments of which it is known.

What counts is the best score of a segment, that of the person who is named first. Its probability of showing nobody
comes from a logistic regression (see ``calibration``). For open-set identification with a threshold see P. Grother et
al., "Face Recognition Vendor Test (FRVT) Part 2: Identification", NIST IR 8271 (2019): the false positive
identification rate is the share of strangers for whom somebody is named.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vidperson.backends.calibration import LinearModel, train_linear
from vidperson.errors import ScoringError


def train_nobody(known: ArrayLike, strangers: ArrayLike, system: str, trained_on: str) -> LinearModel:
    """The model from the best score to the log-odds of showing nobody, less those of the share of strangers.

    known, strangers: (K,) and (S,) best scores of segments that show a person, and of segments that show none.
    A stranger counts as one with the probability (S + 1) / (S + 2), a known person with 1 / (K + 2): J. Platt,
    "Probabilistic Outputs for Support Vector Machines" (1999). Few segments that a score parts without error would
    otherwise give a certainty that they do not bear out. The prior is the share of the strangers: what
    :func:`probabilities` gives is meant for sets with as many of them.
    Raises ScoringError without known ones or without strangers, and for scores that are not finite.
    """
    persons, others = np.asarray(known, dtype=np.float64), np.asarray(strangers, dtype=np.float64)
    if not len(persons) or not len(others):
        raise ScoringError(
            f"expected segments of persons and of strangers to calibrate on, found {len(persons)} and {len(others)}"
        )
    scores = np.concatenate([persons, others])
    chances = np.repeat([1 / (len(persons) + 2), (len(others) + 1) / (len(others) + 2)], [len(persons), len(others)])
    # Each segment as a stranger, and as a known person, by the probability of it.
    twice, is_stranger = np.tile(scores, 2), np.repeat([True, False], len(scores))
    weights, prior = np.concatenate([chances, 1 - chances]) / len(scores), len(others) / len(scores)
    model = train_linear(twice, is_stranger, (system,), prior, trained_on=trained_on, weights=weights)
    return replace(model, num_targets=len(others), num_nontargets=len(persons))


def probabilities(model: LinearModel, scores: ArrayLike) -> NDArray[np.float64]:
    """(N,) best scores to the (N,) probabilities, 0..1, of showing nobody."""
    log_odds = model.apply(np.asarray(scores, dtype=np.float64)) + math.log(model.prior) - math.log1p(-model.prior)
    return np.asarray(np.exp(-np.logaddexp(0, -log_odds)))


def threshold_for(scores: ArrayLike, count: int, rate: float) -> float:
    """The lowest threshold that at most a share ``rate`` of the strangers reach: just above the next of them.

    scores: (S,) float32 best scores. count: of all strangers, those without an item included, who reach nothing.
    Where all may reach it, it is the lowest of their scores. Raises ScoringError without any score.
    """
    ordered = np.sort(np.asarray(scores, dtype=np.float32))[::-1]
    if not len(ordered):
        raise ScoringError("expected a stranger with a score, found none")
    allowed = math.floor(rate * count * (1 + 1e-12))
    found = ordered[-1] if allowed >= len(ordered) else np.nextafter(ordered[allowed], np.float32(np.inf))
    return float(str(found))  # the number that the same digits in a list are read as
