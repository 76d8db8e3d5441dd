"""How often a threshold on a score tells same from different pairs; from the exact ROC of ``detection``.

Definitions: G. B. Huang et al., "Labeled Faces in the Wild", technical report 07-49 (2007), for accuracy with a
threshold learnt elsewhere and for ten folds; the true accept rate at a false accept rate as in NIST FRVT reports.
A pair is accepted when its score is at least the threshold.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vidperson.errors import ScoringError
from vidperson.metrics.detection import Roc, roc


def best_threshold(curve: Roc) -> float:
    """The threshold of highest accuracy, in the middle between the two scores that it parts.

    Of several equally good ones the lowest; scores' extremes where accepting or rejecting everything is best.
    """
    misses, false_alarms = curve.corners
    at = int(np.argmin(misses + false_alarms))
    rejected = int(misses[at]) + curve.num_nontargets - int(false_alarms[at])
    scores = np.sort(np.concatenate([curve.targets, curve.nontargets]))
    if rejected == 0:
        return float(scores[0])
    if rejected == len(scores):
        return float(np.nextafter(scores[-1], np.inf))
    return float((scores[rejected - 1] + scores[rejected]) / 2)


def accuracy(targets: ArrayLike, nontargets: ArrayLike, threshold: float) -> float:
    """Share, 0..1, of all pairs that are decided rightly at a threshold.

    Raises ScoringError as :func:`roc` does.
    """
    curve = roc(targets, nontargets)
    misses, false_alarms = curve.errors_at(threshold)
    return float(1 - (misses + false_alarms) / (curve.num_targets + curve.num_nontargets))


def fold_accuracies(scores: ArrayLike, is_target: ArrayLike, folds: ArrayLike) -> NDArray[np.float64]:
    """(K,) accuracies of each fold at the threshold that is best on all the others.

    scores, is_target, folds: (N,); the folds' numbers are taken in ascending order.
    Raises ScoringError for fewer than two folds, or folds that lack targets or non-targets.
    """
    fold, right = np.asarray(folds), fold_decisions(scores, is_target, folds)
    return np.array([right[fold == number].mean() for number in np.unique(fold)])


def fold_decisions(scores: ArrayLike, is_target: ArrayLike, folds: ArrayLike) -> NDArray[np.bool_]:
    """(N,) whether each pair is decided rightly at the threshold that is best on all the other folds.

    Parameters and errors as for :func:`fold_accuracies`.
    """
    values, target, fold = np.asarray(scores, np.float64), np.asarray(is_target, bool), np.asarray(folds)
    numbers = np.unique(fold)
    if len(numbers) < 2:
        raise ScoringError(f"expected at least two folds, found {len(numbers)}")
    right = np.zeros(len(values), bool)
    for number in numbers:
        inside = fold == number
        roc(values[inside & target], values[inside & ~target])  # refuses a fold of one kind only
        threshold = best_threshold(roc(values[~inside & target], values[~inside & ~target]))
        right[inside] = (values[inside] >= threshold) == target[inside]
    return right


def split_folds(is_target: ArrayLike, count: int = 10) -> NDArray[np.int64]:
    """(N,) fold numbers 0..count-1 for a list without folds: targets and non-targets each in consecutive parts."""
    target = np.asarray(is_target, bool)
    folds = np.zeros(len(target), np.int64)
    for kind in (True, False):
        where = np.flatnonzero(target == kind)
        folds[where] = np.arange(len(where)) * count // max(1, len(where))
    return folds


def tar_at_far(curve: Roc, far: float) -> float:
    """True accept rate, 0..1, at the lowest threshold whose false accept rate is at most ``far`` (0..1).

    With fewer than 1 / far non-targets no false accept is allowed.
    """
    misses, false_alarms = curve.corners
    allowed = false_alarms <= far * curve.num_nontargets
    return float(1 - misses[int(np.argmax(allowed))] / curve.num_targets)
