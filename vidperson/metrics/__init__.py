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
from vidperson.metrics.verification import accuracy, best_threshold, fold_accuracies, split_folds, tar_at_far

__all__ = [
    "C_FA",
    "C_MISS",
    "NORMALISATION",
    "Roc",
    "accuracy",
    "act_dcf",
    "bayes_threshold",
    "best_threshold",
    "check_prior",
    "convex_hull",
    "eer",
    "fold_accuracies",
    "min_dcf",
    "normalised_dcf",
    "roc",
    "split_folds",
    "tar_at_far",
]
