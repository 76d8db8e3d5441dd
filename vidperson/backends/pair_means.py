"""Means of the cosines of all pairs of rows, as inner products of one vector a set.

The mean of cos(a_i, b_j) over all rows a_i of one set and b_j of another is the inner product of the means of their
unit vectors. So a set becomes one vector, of at most length 1, and a trial costs one product, however many rows the
sets have. Sums are exact, see ``exact``: the order of the rows after the first does not matter.

The scores of rows 0 and of crops are those of the ECAPA-TDNN recipe (github.com/TaoRuijie/ECAPA-TDNN): the mean of
the cosine of whole utterances and the mean cosine of five crops of each. AVCleanse compares faces by the mean of
5 x 5 cosines (github.com/TaoRuijie/AVCleanse).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from vidperson.backends.exact import UNIT_BITS, Double, length_normalise, round_to_grid
from vidperson.backends.scorers import Cosine, Side
from vidperson.backends.sets import EmbeddingSets, Float, Index

_ROWS_AT_ONCE = 4096

Means = Callable[[Double, Double, Index], Double]
"""(K, dim) first unit vectors, (K, dim) sums of all unit vectors, (K, 1) rows of K sets to (K, dim') vectors."""


class InnerProduct(Cosine):
    """Inner product of vectors of at most length 1, exact before it is rounded."""

    def enrolment_side(self, rows: Index) -> Side:
        return (round_to_grid(self.enrolment.embeddings[rows], UNIT_BITS),)

    def test_side(self, rows: Index) -> Side:
        return (round_to_grid(self.test.embeddings[rows], UNIT_BITS),)

    def scales(self, sets: EmbeddingSets) -> Double:
        return np.ones(len(sets.embeddings))


def first_rows(sets: EmbeddingSets) -> EmbeddingSets:
    """The first embedding of each set; the same object where no set has more."""
    if sets.counts.max(initial=0) <= 1:
        return sets
    there = sets.counts > 0
    return EmbeddingSets(sets.keys, sets.embeddings[sets.offsets[:-1][there]], np.append(0, np.cumsum(there)))


def all_rows(sets: EmbeddingSets) -> EmbeddingSets:
    """Vectors with inner products that are the means of all cosines of two sets."""
    return _vectors(sets, lambda first, sums, rows: sums / rows, 1)


def later_rows(sets: EmbeddingSets) -> EmbeddingSets:
    """Likewise of the rows after the first; of the first where there is no other."""
    return _vectors(sets, _later, 1)


def first_and_later_rows(sets: EmbeddingSets) -> EmbeddingSets:
    """Vectors with inner products that are the mean of the cosine of first rows and that of :func:`later_rows`."""

    def both(first: Double, sums: Double, rows: Index) -> Double:
        return np.hstack([first, _later(first, sums, rows)]) * math.sqrt(0.5)

    return _vectors(sets, both, 2)


def twice(sets: EmbeddingSets) -> EmbeddingSets:
    """Each row beside itself: what :func:`first_and_later_rows` makes of single rows, but for the length."""
    return EmbeddingSets(sets.keys, np.hstack([sets.embeddings, sets.embeddings]), sets.offsets)


def _later(first: Double, sums: Double, rows: Index) -> Double:
    return np.where(rows > 1, (sums - first) / np.maximum(rows - 1, 1), first)


def _vectors(sets: EmbeddingSets, means: Means, parts: int) -> EmbeddingSets:
    """One vector a set; a set without rows stays so. parts: how often a vector is as wide as a row."""
    there = np.flatnonzero(sets.counts > 0)
    vectors = np.empty((len(there), parts * sets.dim), dtype=np.float32)
    for begin, end in _groups(sets.counts[there]):
        members = there[begin:end]
        starts, rows = sets.offsets[members], sets.counts[members]
        low, high = int(starts[0]), int(starts[0] + rows.sum())
        if end - begin == 1:
            sums = _sum(sets.embeddings[low:high])
            first = length_normalise(sets.embeddings[low : low + 1])
        else:
            units = length_normalise(sets.embeddings[low:high])
            sums, first = np.add.reduceat(units, starts - low), units[starts - low]
        vectors[begin:end] = means(first, sums, rows[:, None])
    return EmbeddingSets(sets.keys, vectors, np.append(0, np.cumsum(sets.counts > 0)))


def _sum(rows: Float) -> Double:
    """(N, dim) embeddings to the (1, dim) sum of their unit vectors."""
    total = np.zeros((1, rows.shape[1]))
    for begin in range(0, len(rows), _ROWS_AT_ONCE):
        total += length_normalise(rows[begin : begin + _ROWS_AT_ONCE]).sum(axis=0)
    return total


def _groups(counts: Index) -> Iterator[tuple[int, int]]:
    """Begin and end of sets with together at most so many rows as are taken at once, or of one that has more."""
    ends = np.cumsum(counts)
    begin = 0
    while begin < len(counts):
        most = ends[begin] - counts[begin] + _ROWS_AT_ONCE
        end = max(begin + 1, int(np.searchsorted(ends, most, side="right")))
        yield begin, end
        begin = end
