"""Detection-error metrics (pure numpy)."""

from __future__ import annotations

from vidperson.metrics.detection import (
    C_FA,
    C_MISS,
    NORMALISATION,
    Roc,
    act_dcf,
    bayes_threshold,
    check_prior,
    convex_hull,
    eer,
    min_dcf,
    normalised_dcf,
    roc,
)

__all__ = [
    "C_FA",
    "C_MISS",
    "NORMALISATION",
    "Roc",
    "act_dcf",
    "bayes_threshold",
    "check_prior",
    "convex_hull",
    "eer",
    "min_dcf",
    "normalised_dcf",
    "roc",
]
