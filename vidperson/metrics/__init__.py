"""Detection-error metrics (pure numpy)."""

from __future__ import annotations

from vidperson.metrics.boxes import average_precision, landmark_error, match_boxes, overlap
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
    "average_precision",
    "bayes_threshold",
    "best_threshold",
    "check_prior",
    "convex_hull",
    "eer",
    "fold_accuracies",
    "landmark_error",
    "match_boxes",
    "min_dcf",
    "normalised_dcf",
    "overlap",
    "roc",
    "split_folds",
    "tar_at_far",
]
