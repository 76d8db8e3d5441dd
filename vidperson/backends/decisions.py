"""From log-likelihood ratios to who it is: probabilities of persons and of nobody, and a decision.

A track shows one of P persons of a gallery with the prior probability ``person_prior``, each of them alike, or somebody
else. With the log-likelihood ratio l_p of each person (same person as the track, or another one) the probability of
person p is w_p / (1 - person_prior + sum of w), where w_p = person_prior / P * exp(l_p): Bayes' rule for an open set,
as in N. Brümmer and E. de Villiers, "The speaker partitioning problem" (Odyssey 2010).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidperson.errors import ScoringError

Double = NDArray[np.float64]


@dataclass(frozen=True)
class Thresholds:
    """When a person is named.

    person_prior: 0..1, how probable it is that somebody in a video is in the gallery.
    yes: the lowest probability of a person that is named. unsure: the lowest probability that it is anybody of the
        gallery; below it is ``unknown``.
    Raises ScoringError for values that cannot be.
    """

    person_prior: float = 0.5
    yes: float = 0.8
    unsure: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.person_prior < 1:
            raise ScoringError(f"person_prior: expected a number between 0 and 1, found {self.person_prior:g}")
        if not 0 < self.unsure <= self.yes <= 1:
            found = f"found {self.unsure:g} and {self.yes:g}"
            raise ScoringError(f"expected 0 < unsure_probability <= min_probability <= 1, {found}")

    def decide(self, probability: float, nobody: float) -> str:
        """The decision for the most probable person.

        nobody: the probability that it is nobody of the gallery. Somebody whom the gallery has under two names has
        half of the probability under each, and is not unknown.
        """
        return "yes" if probability >= self.yes else "unsure" if 1 - nobody >= self.unsure else "unknown"


def posteriors(llrs: Double, person_prior: float, persons: int, others: float = -math.inf) -> tuple[Double, float]:
    """(K,) probabilities of K persons of a gallery, and that of nobody of it.

    llrs: (K,) natural log-likelihood ratios. persons: of the whole gallery, K or more.
    others: ln of the sum of exp(llr) of those that are not among the K.
    """
    if not persons:
        return np.zeros(0), 1.0
    each = math.log(person_prior / persons)
    weights = np.append(llrs + each, [math.log1p(-person_prior), others + each])
    weights = np.exp(weights - weights.max())
    shares = weights / math.fsum(weights.tolist())
    return shares[:-2], float(shares[-2])
