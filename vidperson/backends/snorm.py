"""Adaptive symmetric score normalisation, for every pair of rows and before the maximum over faces."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vidperson.backends.exact import UNIT_BITS, Double, bits_for_sum, length_normalise, round_to_grid
from vidperson.backends.scorers import CohortScorer, Pairwise, Side
from vidperson.backends.sets import EmbeddingSets, Index
from vidperson.errors import ScoringError

STD_FLOOR = 1e-5
_CHUNK = 256  # rows whose cohort scores are sorted at a time
_REST_BITS = 20


def require_cohort(cohort: EmbeddingSets, dim: int, count: int, discard: int = 0) -> None:
    """Raises ScoringError for a cohort that is smaller than asked, or has embeddings of another size than dim.

    dim: 0 where there is nothing to score.
    """
    have = len(cohort.embeddings)
    if have < count + discard:
        raise ScoringError(
            f"the cohort has {have} items, {count + discard} are asked for "
            f"(ncoh {count} after ncoh_discard {discard}); take a larger cohort or a smaller ncoh"
        )
    if dim and cohort.dim != dim:
        raise ScoringError(
            f"cohort embeddings have {cohort.dim} numbers, those to score {dim}; extract all with the same network"
        )


class AdaptiveSNorm(Pairwise):
    """Normalises the scores s(e, t) of another scorer by a cohort's scores.

    Of the cohort faces c, those with the ranks discard + 1 to discard + count in s(c, t) give the mean and the
    standard deviation (population; at least 1e-5) of s(e, c), with which (s - mean) / std is one half of the
    score; those with the same ranks in s(e, c) give mean and deviation of s(c, t), the other half. The score is the
    sum of both halves divided by sqrt(2). Of cohort faces with the same score the earlier ones come first.
    (Cumani et al., Comparison of speaker recognition approaches for real applications, Interspeech 2011, with
    cohorts selected across as in the JHU-MIT system of Villalba et al., Odyssey 2020.)

    All of it is matrix products: means of cosines are cosines with mean vectors, and mean squares are products of
    squared scores with 0/1 matrices of those selected, exact on a grid like everything else.
    """

    bounds = (-np.inf, np.inf)

    def __init__(self, scorer: CohortScorer, cohort: EmbeddingSets, count: int, discard: int = 0) -> None:
        """cohort: faces whose sets do not matter. count, discard: how many of the best count, after how many do not.

        Raises ScoringError for a cohort that is smaller than asked, or has embeddings of another size.
        """
        require_cohort(cohort, scorer.dim, count, discard)
        have = len(cohort.embeddings)
        self._scorer = scorer
        self._first, self._count = discard, count
        self._units = length_normalise(cohort.embeddings)
        self._bits = bits_for_sum(count)
        self.enrolment_offsets, self.test_offsets = scorer.enrolment_offsets, scorer.test_offsets
        # Squares and selection, float64, and where the test side has no unit vectors its scores; mean vectors.
        rows = 16 * have + 16 * self._units.shape[1]
        self.enrolment_row_bytes = scorer.enrolment_row_bytes + rows
        self.test_row_bytes = scorer.test_row_bytes + rows + (0 if scorer.test_units else 8 * have)
        self.pair_bytes = scorer.pair_bytes + 48
        self.held_bytes = scorer.held_bytes + cohort.embeddings.nbytes + self._units.nbytes + 32 * have * _CHUNK

    def enrolment_side(self, rows: Index) -> Side:
        (units,) = self._scorer.enrolment_side(rows)
        return (units, *self._statistics(len(rows), lambda chunk: units[chunk] @ self._units.T))

    def test_side(self, rows: Index) -> Side:
        (base,) = self._scorer.test_side(rows)
        kept = None if self._scorer.test_units else np.empty((len(rows), len(self._units)))
        statistics = self._statistics(
            len(rows), lambda chunk: self._scorer.score_cohort(self._units, (base[chunk],)), kept
        )
        return (base, *statistics) if kept is None else (base, *statistics, kept)

    def compare(self, enrolment: Side, test: Side) -> Double:
        units, mean_e, rest_e, squares_e, selected_e = enrolment
        base, mean_t, rest_t, squares_t, selected_t = test[:5]
        scores = self._scorer.compare((units,), (base,))
        # The cohort faces that the test row chose, scored against the enrolment row.
        total = _normalised(scores, _two_part(units, mean_t, rest_t), self._mean_square(squares_e, selected_t))
        # Those that the enrolment row chose, scored against the test row.
        linear = self._scorer.test_units
        mean = _two_part(base, mean_e, rest_e).T if linear else selected_e @ test[5].T / self._count
        total += _normalised(scores, mean, self._mean_square(squares_t, selected_e).T)
        total /= np.sqrt(2.0)
        return total

    def _mean_square(self, squares: Double, selected: Double) -> Double:
        """(A, C) squared scores and (B, C) selections to (A, B) means of the squares of those selected."""
        means = squares @ selected.T
        means /= self._count
        return means

    def _statistics(
        self, count: int, cohort_scores: Callable[[slice], Double], kept: Double | None = None
    ) -> tuple[Double, Double, Double, Double]:
        """Per row: mean vector of the cohort faces selected, in two parts; squared scores; which are selected (0, 1).

        cohort_scores: gives the (rows, C) cohort scores of a slice of the rows.
        kept: (count, C) where to keep the scores, rounded to the grid on which their sums are exact.
        """
        size, dim = self._units.shape
        means, rests = np.empty((count, dim)), np.empty((count, dim))
        squares, selected = np.empty((count, size)), np.empty((count, size))
        for begin in range(0, count, _CHUNK):
            chunk = slice(begin, begin + _CHUNK)
            scores = cohort_scores(chunk)
            selected[chunk] = best(scores, self._first + self._count)
            if self._first:
                selected[chunk] -= best(scores, self._first)
            if kept is not None:
                kept[chunk] = scores = round_to_grid(scores, self._bits)
            squares[chunk] = round_to_grid(np.square(scores), self._bits)
            mean = selected[chunk] @ self._units / self._count
            means[chunk] = round_to_grid(mean, UNIT_BITS)
            rests[chunk] = round_to_grid((mean - means[chunk]) * 2.0**UNIT_BITS, _REST_BITS)
        return means, rests, squares, selected


def best(scores: Double, count: int) -> NDArray[np.bool_]:
    """(N, C) scores to (N, C) flags of the ``count`` largest of each row, of equal ones those that come first."""
    size = scores.shape[1]
    least = np.partition(scores, size - count, axis=1)[:, size - count, None]
    flags = scores >= least
    for row in np.flatnonzero(np.count_nonzero(flags, axis=1) > count):
        ties = np.flatnonzero(scores[row] == least[row])
        flags[row, ties[count - np.count_nonzero(flags[row]) :]] = False
    return flags


def _two_part(units: Double, mean: Double, rest: Double) -> Double:
    """(A, dim) unit vectors and (B, dim) mean vectors in two parts to (A, B) mean scores, each product exact."""
    products = units @ rest.T
    products *= 2.0**-UNIT_BITS
    products += units @ mean.T
    return products


def _normalised(scores: Double, means: Double, mean_squares: Double) -> Double:
    """(scores - means) / deviations; overwrites ``mean_squares``."""
    mean_squares -= np.square(means)
    np.maximum(mean_squares, STD_FLOOR**2, out=mean_squares)
    np.sqrt(mean_squares, out=mean_squares)
    return np.divide(scores - means, mean_squares, out=mean_squares)
