"""The primary costs of NIST's evaluations: detection cost averaged over priors and over partitions of the trials.

Sources: NIST, "2019 Speaker Recognition Evaluation Plan" (audio-visual part: one prior, 0.05) and "2021 Speaker
Recognition Evaluation Plan" (mean of the costs at 0.01 and 0.05; partitions have equal weight). As in NIST's own
scoring, P_miss is averaged over the partitions that have targets, P_fa over those that have non-targets, and the
minimum is taken with one threshold for all partitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vidperson.errors import ScoringError
from vidperson.metrics.detection import C_FA, C_MISS, act_dcf, bayes_threshold, min_dcf, normalised_dcf, roc

PRIMARY_PRIORS: dict[str, tuple[float, ...]] = {"sre19": (0.05,), "sre21": (0.01, 0.05)}
"""Target priors of each definition of the primary cost."""


@dataclass(frozen=True)
class PrimaryCost:
    """Normalised cost, 0 and up, at the best threshold and at the one that log-likelihood ratios call for."""

    min: float
    act: float


def primary_priors(definition: str) -> tuple[float, ...]:
    """Raises ScoringError naming the valid definitions for any other."""
    if definition not in PRIMARY_PRIORS:
        raise ScoringError(f"no primary cost '{definition}'; valid: {' '.join(PRIMARY_PRIORS)}")
    return PRIMARY_PRIORS[definition]


def primary_cost(
    scores: ArrayLike,
    is_target: ArrayLike,
    priors: Sequence[float],
    partitions: ArrayLike | None = None,
    c_miss: float = C_MISS,
    c_fa: float = C_FA,
) -> PrimaryCost:
    """Mean over the priors of the normalised cost.

    scores: (N,), natural log-likelihood ratios. is_target: (N,) bool. partitions: (N,) integers, by which trials
    with equal ones belong together; None: all together.
    Raises ScoringError when there are no targets or no non-targets, for scores that are not finite, and for
    priors and costs that cannot be.
    """
    values, target = np.asarray(scores, np.float64), np.asarray(is_target, bool)
    whole = roc(values[target], values[~target])
    if partitions is None:
        least = [min_dcf(whole, prior, c_miss, c_fa) for prior in priors]
        actual = [act_dcf(whole, prior, c_miss, c_fa) for prior in priors]
        return PrimaryCost(float(np.mean(least)), float(np.mean(actual)))

    labels = np.asarray(partitions)
    masks = [labels == label for label in np.unique(labels)]
    targets = [np.sort(values[mask & target]) for mask in masks if np.any(mask & target)]
    nontargets = [np.sort(values[mask & ~target]) for mask in masks if np.any(mask & ~target)]

    def cost(thresholds: ArrayLike, prior: float) -> NDArray[np.float64]:
        p_miss = sum(np.searchsorted(part, thresholds) / len(part) for part in targets) / len(targets)
        p_fa = 1 - sum(np.searchsorted(part, thresholds) / len(part) for part in nontargets) / len(nontargets)
        return normalised_dcf(p_miss, p_fa, prior, c_miss, c_fa)

    candidates = np.append(np.unique(whole.targets), np.inf)  # a threshold between targets only adds false alarms
    least = [float(cost(candidates, prior).min()) for prior in priors]
    actual = [float(cost(bayes_threshold(prior, c_miss, c_fa), prior)) for prior in priors]
    return PrimaryCost(float(np.mean(least)), float(np.mean(actual)))
