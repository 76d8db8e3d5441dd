"""Searches of segments that may show nobody who is enrolled: misses and false alarms over a threshold.

FPIR and FNIR, the false-positive and false-negative identification rates: ISO/IEC 19795-1:2021, and P. Grother,
M. Ngan, K. Hanaoka, "Face Recognition Vendor Test, Part 2: Identification", NISTIR 8271 (2019). DIR, the detection and
identification rate, and the false-alarm rate that it stands beside, which is FPIR: P. J. Phillips, P. Grother,
R. Micheals, "Evaluation Methods in Face Recognition", Handbook of Face Recognition (2005).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidperson.errors import ScoringError
from vidperson.metrics.intervals import Weights, drawn_units, intervals, num_draws, weighted_share

MOST_POINTS = 500
_ROUNDING = 1e-9  # 0.29 x 100 is 28.999999999999996, and means 29


@dataclass(frozen=True)
class Searches:
    """What the lists of models of all segments say; -inf where a list, or a right model in it, is missing.

    scores: (N,) float64, of the segments that show a model: the score of the best right one in the list.
    ranks: (N,) int64, its place there, from 1; 0 where there is none.
    strangers: (M,) float64, of the segments that show none: the best score in the list.
    """

    scores: NDArray[np.float64]
    ranks: NDArray[np.int64]
    strangers: NDArray[np.float64]

    @cached_property
    def highest(self) -> NDArray[np.float64]:
        """(M,) scores of the strangers, highest first."""
        return np.sort(self.strangers)[::-1]

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """(M,) the strangers, those with the highest scores first."""
        return np.argsort(-self.strangers, kind="stable")

    def fpir(self, threshold: float) -> float:
        """Share of the strangers with a score at or above the threshold."""
        return float(np.mean(self.strangers >= threshold))

    def identified(self, threshold: float) -> NDArray[np.bool_]:
        """(N,) whether a right model is in the list at or above the threshold."""
        return (self.ranks > 0) & (self.scores >= threshold)

    def fnir(self, threshold: float) -> float:
        """Share of the segments that show a model without a right one at or above the threshold."""
        return 1 - float(np.mean(self.identified(threshold)))

    def dir(self, threshold: float, rank: int = 1) -> float:
        """Share of them with a right one at or above the threshold and among the first ``rank``."""
        return float(np.mean(self.identified(threshold) & (self.ranks <= rank)))

    def threshold(self, fpir: float) -> float:
        """The lowest threshold at which no larger share of the strangers is at or above it: next to a score above."""
        allowed = math.floor(fpir * len(self.highest) + _ROUNDING)
        return above(self.highest[allowed]) if allowed < len(self.highest) else -math.inf


def above(score: float) -> float:
    """The next number above a score; -inf stays, since it stands for no score."""
    return float(np.nextafter(score, math.inf)) if math.isfinite(score) else -math.inf


def searches(
    lists: Mapping[str, Sequence[tuple[str, float]]], shown: Mapping[str, Collection[str]], segments: Iterable[str]
) -> Searches:
    """The searches of ``segments``.

    lists: segment -> (model, score), best first. shown: segment -> the models that it shows; those without are
        strangers.
    Raises ScoringError unless there are segments of both kinds.
    """
    scores, ranks, strangers = [], [], []
    for segment in segments:
        found = lists.get(segment, ())
        if segment not in shown:
            strangers.append(found[0][1] if found else -math.inf)
            continue
        places = ((rank, score) for rank, (model, score) in enumerate(found, 1) if model in shown[segment])
        rank, score = next(places, (0, -math.inf))
        scores.append(score)
        ranks.append(rank)
    for count, what in ((len(scores), "show a model"), (len(strangers), "show none")):
        if not count:
            raise ScoringError(f"open-set figures: expected segments that {what}, found none")
    return Searches(np.array(scores), np.array(ranks, np.int64), np.array(strangers))


def operating_point(found: Searches, fpir: float) -> dict[str, Any]:
    """The figures at the lowest threshold that keeps FPIR at or below ``fpir``.

    threshold: None where every score is above it. measured_fpir, fnir, dir (at rank 1): 0..1.
    resolved: whether one stranger is no larger a share than ``fpir``. Where it is, the threshold is above all of them
    and FNIR is that at no false positive: nothing is read between 0 and one stranger.
    """
    threshold = found.threshold(fpir)
    return {
        "fpir": fpir,
        "threshold": threshold if math.isfinite(threshold) else None,
        "measured_fpir": found.fpir(threshold) if math.isfinite(threshold) else listed_share(found),
        "fnir": found.fnir(threshold),
        "dir": found.dir(threshold),
        "resolved": fpir * len(found.strangers) + _ROUNDING >= 1,
    }


def listed_share(found: Searches) -> float:
    """FPIR when every list counts, whatever its scores: share of the strangers that have one."""
    return float(np.mean(np.isfinite(found.strangers)))


def curve(found: Searches) -> dict[str, list[float]]:
    """FPIR with the FNIR and the DIR at rank 1 that it allows: exact points, from few false positives to all.

    At most about 500 of them, evenly spaced on a logarithmic axis of FPIR.
    """
    distinct = np.unique(found.highest)[::-1]
    thresholds = np.array([*map(above, distinct), -math.inf])
    if len(thresholds) > MOST_POINTS:
        chosen = np.geomspace(1, len(thresholds), MOST_POINTS).round().astype(np.int64) - 1
        thresholds = thresholds[np.unique(chosen)]
    thresholds = np.unique(thresholds)[::-1]
    passed = len(found.highest) - np.searchsorted(found.highest[::-1], thresholds)
    passed[~np.isfinite(thresholds)] = np.isfinite(found.highest).sum()
    return {
        "fpir": (passed / len(found.highest)).tolist(),
        "fnir": (1 - _reached(found.scores, thresholds) / len(found.scores)).tolist(),
        "dir": (_reached(found.scores[found.ranks == 1], thresholds) / len(found.scores)).tolist(),
    }


def _reached(scores: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
    """(K,) how many of the finite scores are at or above each threshold."""
    ascending = np.sort(scores[np.isfinite(scores)])
    return len(ascending) - np.searchsorted(ascending, thresholds)


def open_set_intervals(
    found: Searches, units: NDArray[np.int64], fpirs: Sequence[float], ranks: Sequence[int]
) -> dict[str, list[float]]:
    """95 % intervals, [low, high], by the bootstrap over persons and strangers (:mod:`vidperson.metrics.intervals`).

    units: (N,) the person of each segment that shows a model, from 0. The persons, each with all its segments, and the
    strangers are drawn together. Names: ``fnir@<fpir>`` and ``dir@<fpir>`` at the threshold of each draw, ``rank-<r>``.
    """
    persons = int(units.max()) + 1
    figures: dict[str, Callable[[Weights], float]] = {}
    for fpir in fpirs:

        def missed(weights: Weights, fpir: float = fpir) -> float:
            threshold = _drawn_threshold(found, weights[persons:], fpir)
            return weighted_share(~found.identified(threshold), weights[units])

        def first(weights: Weights, fpir: float = fpir) -> float:
            threshold = _drawn_threshold(found, weights[persons:], fpir)
            return weighted_share(found.identified(threshold) & (found.ranks == 1), weights[units])

        figures |= {f"fnir@{fpir:g}": missed, f"dir@{fpir:g}": first}
    for rank in ranks:

        def so_far_up(weights: Weights, rank: int = rank) -> float:
            return weighted_share((found.ranks > 0) & (found.ranks <= rank), weights[units])

        figures[f"rank-{rank}"] = so_far_up
    draws = num_draws(len(found.scores) + len(found.strangers))
    return intervals(figures, drawn_units(persons + len(found.strangers), draws))


def _drawn_threshold(found: Searches, weights: Weights, fpir: float) -> float:
    """The threshold of a draw, in which the strangers count ``weights`` times each."""
    reached = np.cumsum(weights[found.order])
    first = int(np.searchsorted(reached, fpir * reached[-1] + _ROUNDING, side="right"))
    return above(found.highest[first]) if first < len(reached) else -math.inf
