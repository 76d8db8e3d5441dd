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
    check_costs,
    check_prior,
    convex_hull,
    det_points,
    eer,
    eer_point,
    eer_simple,
    min_dcf,
    normalised_dcf,
    precision_recall_break_even,
    roc,
)
from vidperson.metrics.likelihood import cllr, min_cllr
from vidperson.metrics.primary import PRIMARY_PRIORS, PrimaryCost, primary_cost, primary_priors
from vidperson.metrics.verification import accuracy, best_threshold, fold_accuracies, split_folds, tar_at_far

__all__ = [
    "C_FA",
    "C_MISS",
    "NORMALISATION",
    "PRIMARY_PRIORS",
    "PrimaryCost",
    "Roc",
    "accuracy",
    "act_dcf",
    "average_precision",
    "bayes_threshold",
    "best_threshold",
    "check_costs",
    "check_prior",
    "cllr",
    "convex_hull",
    "det_points",
    "eer",
    "eer_point",
    "eer_simple",
    "fold_accuracies",
    "landmark_error",
    "match_boxes",
    "min_cllr",
    "min_dcf",
    "normalised_dcf",
    "overlap",
    "precision_recall_break_even",
    "primary_cost",
    "primary_priors",
    "roc",
    "split_folds",
    "tar_at_far",
]
