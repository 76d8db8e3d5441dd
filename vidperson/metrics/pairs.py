"""The figures of a list of scored pairs: same person or not?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidperson.metrics.detection import eer, roc
from vidperson.metrics.intervals import Weights, drawn_pairs, intervals, weighted_share
from vidperson.metrics.verification import (
    accuracy,
    best_threshold,
    fold_accuracies,
    fold_decisions,
    split_folds,
    tar_at_far,
)

FALSE_ACCEPT_RATES = (0.01, 0.001)
NUM_FOLDS = 10


def pair_figures(
    scores: NDArray[np.float64],
    is_target: NDArray[np.bool_],
    folds: NDArray[np.int64] | None = None,
    others: tuple[NDArray[np.float64], NDArray[np.bool_]] | None = None,
    persons: Sequence[str] | None = None,
) -> dict[str, Any]:
    """EER, true accept rates, and accuracies of N pairs; shares 0..1, thresholds are scores.

    scores, is_target: (N,). folds: (N,) of the list itself; without them ten are made, where there are enough pairs.
    others: scores and is_target of another list, of which the threshold of ``accuracy`` is learnt.
    persons: 2 N, those of the first images, then those of the second; with them, EER and accuracies have ``interval``,
    see :mod:`vidperson.metrics.intervals`.
    Raises ScoringError where targets or non-targets are lacking.
    """
    targets, nontargets = scores[is_target], scores[~is_target]
    curve = roc(targets, nontargets)
    figures: dict[str, Any] = {
        "num_targets": len(targets),
        "num_nontargets": len(nontargets),
        "eer": eer(curve),
        "tar_at_far": {f"{far:g}": tar_at_far(curve, far) for far in FALSE_ACCEPT_RATES},
    }
    if folds is None and min(len(targets), len(nontargets)) >= NUM_FOLDS:
        folds = split_folds(is_target, NUM_FOLDS)
    decided: dict[str, NDArray[np.bool_]] = {}
    if folds is not None:
        accuracies = fold_accuracies(scores, is_target, folds)
        decided["ten_fold_accuracy"] = fold_decisions(scores, is_target, folds)
        figures |= {"ten_fold_accuracy": float(accuracies.mean()), "ten_fold_std": float(accuracies.std(ddof=1))}
    if others is not None:
        learnt = roc(others[0][others[1]], others[0][~others[1]])
        threshold = best_threshold(learnt)
        figures |= {"threshold": threshold, "accuracy": accuracy(targets, nontargets, threshold)}
        decided["accuracy"] = (scores >= threshold) == is_target
    if persons is not None:
        figures |= {"num_persons": len(set(persons)), "interval": _intervals(scores, is_target, decided, persons)}
    return figures


def _intervals(
    scores: NDArray[np.float64],
    is_target: NDArray[np.bool_],
    decided: dict[str, NDArray[np.bool_]],
    persons: Sequence[str],
) -> dict[str, list[float]]:
    """95 % intervals of the EER, and of the shares of what is ``decided`` rightly, by their names."""

    def weighted_eer(weights: Weights) -> float:
        repeated, target = np.repeat(scores, weights), np.repeat(is_target, weights)
        return eer(roc(repeated[target], repeated[~target])) if 0 < target.sum() < len(target) else float("nan")

    shares = {name: partial(weighted_share, right) for name, right in decided.items()}
    return intervals({"eer": weighted_eer, **shares}, drawn_pairs(persons))


def describe(figures: dict[str, Any]) -> str:
    """The figures in one line."""
    between = {
        name: f" ({100 * low:.2f} to {100 * high:.2f})" for name, (low, high) in figures.get("interval", {}).items()
    }
    text = f"EER {100 * figures['eer']:.2f} %{between.get('eer', '')}"
    text += "".join(f", TAR {100 * tar:.2f} % at FAR {far}" for far, tar in figures["tar_at_far"].items())
    if "ten_fold_accuracy" in figures:
        text += f", 10-fold {100 * figures['ten_fold_accuracy']:.2f} +- {100 * figures['ten_fold_std']:.2f} %"
        text += between.get("ten_fold_accuracy", "")
    if "accuracy" in figures:
        text += f", accuracy {100 * figures['accuracy']:.2f} %{between.get('accuracy', '')}"
    text += f"; {figures['num_targets']} same and {figures['num_nontargets']} different pairs"
    if between:
        text += f" of {figures['num_persons']} persons; in brackets 95 %, bootstrap over persons"
    return text
