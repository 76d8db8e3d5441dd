"""How a row of the enrolment side and a row of the test side give a score; the rows are compared block by block."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vidperson.backends.exact import Double, length_normalise
from vidperson.backends.maxima import largest, largest_products
from vidperson.backends.pooling import attend
from vidperson.backends.sets import EmbeddingSets, Float, Index
from vidperson.errors import ScoringError

ATTENTION_SCALE = 4.0

Side = tuple[NDArray[Any], ...]
"""What a scorer needs of some rows: arrays whose first axis is the rows, so that slicing them slices the rows."""


class Scorer(Protocol):
    """Two ragged sets of rows and how two rows are compared.

    enrolment_offsets, test_offsets: (S + 1,) int64; set s has the rows ``offsets[s]`` to ``offsets[s + 1]``.
    enrolment_row_bytes, test_row_bytes, pair_bytes: memory that a block takes per row and per pair of rows.
    held_bytes: memory taken in any case.
    bounds: the least and the largest score there can be.
    """

    enrolment_offsets: Index
    test_offsets: Index
    enrolment_row_bytes: int
    test_row_bytes: int
    pair_bytes: int
    held_bytes: int
    bounds: tuple[float, float]

    def enrolment_side(self, rows: Index) -> Side:
        """What ``compare`` needs of these rows of the enrolment sets."""

    def test_side(self, rows: Index) -> Side:
        """What ``compare`` needs of these rows of the test sets."""

    def compare(self, enrolment: Side, test: Side) -> Double:
        """(A, B) float64 scores of A enrolment and B test rows; each depends on its two rows alone."""

    def largest(self, enrolment: Side, starts: Index, test: Side, test_starts: Index) -> Double:
        """(M, V) float64: the largest scores of the rows of M and V sets, which begin at (M,) and (V,) int64 starts."""


class CohortScorer(Scorer, Protocol):
    """A scorer whose scores can be normalised by a cohort. An enrolment side is one array, its unit vectors.

    test_units: whether a test side is that, too, and a score the inner product of the two; else it is one array, too.
    dim: size of the embeddings; 0 where there are none.
    """

    test_units: bool
    dim: int

    def score_cohort(self, cohort: Double, test: Side) -> Double:
        """(B, C) float64 scores of C cohort faces, (C, dim) unit vectors, as enrolments of B test rows."""


def check_same_size(enrolment: EmbeddingSets, test: EmbeddingSets) -> int:
    """The size of the embeddings. Raises ScoringError when that of the two sides differs."""
    if len(enrolment.embeddings) and len(test.embeddings) and enrolment.dim != test.dim:
        raise ScoringError(
            f"enrolment embeddings have {enrolment.dim} numbers, test embeddings {test.dim}; "
            "extract both with the same network"
        )
    return max(enrolment.dim, test.dim)


class Cosine:
    """Cosine of an enrolment and a test embedding."""

    bounds = (-1.0, 1.0)
    test_units = True
    pair_bytes = 16

    def __init__(self, enrolment: EmbeddingSets, test: EmbeddingSets) -> None:
        """Raises ScoringError when the embedding sizes of the two sides differ."""
        self.dim = check_same_size(enrolment, test)
        self._enrolment, self._test = enrolment, test
        self.enrolment_offsets, self.test_offsets = enrolment.offsets, test.offsets
        self.enrolment_row_bytes = self.test_row_bytes = 24 * self.dim
        self.held_bytes = enrolment.embeddings.nbytes + test.embeddings.nbytes

    def enrolment_side(self, rows: Index) -> Side:
        return (length_normalise(self._enrolment.embeddings[rows]),)

    def test_side(self, rows: Index) -> Side:
        return (length_normalise(self._test.embeddings[rows]),)

    def compare(self, enrolment: Side, test: Side) -> Double:
        return enrolment[0] @ test[0].T

    def largest(self, enrolment: Side, starts: Index, test: Side, test_starts: Index) -> Double:
        found = largest_products(enrolment[0], starts, test[0], test_starts)
        return largest(self.compare(enrolment, test), starts, test_starts) if found is None else found

    def score_cohort(self, cohort: Double, test: Side) -> Double:
        return test[0] @ cohort.T


class WholeVideo:
    """Compares an enrolment embedding with all embeddings of a video at once; ``score_video`` says how.

    A test row is a whole video. A subclass defines ``score_video``, and ``bounds`` where scores may leave -1..1.
    """

    bounds = (-1.0, 1.0)
    test_units = False
    pair_bytes = 24

    def __init__(self, enrolment: EmbeddingSets, test: EmbeddingSets) -> None:
        """Raises ScoringError when the embedding sizes of the two sides differ."""
        self.dim = check_same_size(enrolment, test)
        self._enrolment, self._test = enrolment, test
        self.enrolment_offsets = enrolment.offsets
        self.test_offsets = np.append(0, np.cumsum(test.counts > 0))
        self._videos = np.flatnonzero(test.counts > 0)
        # Weights and means of all enrolment rows with one video at a time.
        self.enrolment_row_bytes = 56 * self.dim + 40 * int(test.counts.max(initial=0))
        self.test_row_bytes = 8
        self.held_bytes = enrolment.embeddings.nbytes + test.embeddings.nbytes

    def score_video(self, units: Double, faces: Float) -> Double:
        """(A,) scores of (A, dim) enrolment embeddings of length 1 with a video's (N, dim) embeddings, N > 0.

        ``faces`` are as the network gave them, or as the back-end refined them. Each score depends on its own row.
        """
        raise NotImplementedError

    def enrolment_side(self, rows: Index) -> Side:
        return (length_normalise(self._enrolment.embeddings[rows]),)

    def test_side(self, rows: Index) -> Side:
        return (rows,)

    def compare(self, enrolment: Side, test: Side) -> Double:
        units = enrolment[0]
        scores = np.empty((len(units), len(test[0])))
        for column, row in enumerate(test[0]):
            scores[:, column] = self.score_video(units, self._test[int(self._videos[row])])
        return scores

    def largest(self, enrolment: Side, starts: Index, test: Side, test_starts: Index) -> Double:
        return largest(self.compare(enrolment, test), starts, test_starts)

    def score_cohort(self, cohort: Double, test: Side) -> Double:
        scores = np.empty((len(test[0]), len(cohort)))
        for begin in range(0, len(cohort), 1024):
            scores[:, begin : begin + 1024] = self.compare((cohort[begin : begin + 1024],), test).T
        return scores


class SourceTargetAttention(WholeVideo):
    """Cosine of an enrolment embedding and the mean of a video's embeddings as that embedding attends to them.

    The weights are the softmax over the video of a times the cosine of its embeddings with the enrolment one, a = 4.
    """

    def score_video(self, units: Double, faces: Float) -> Double:
        pooled = length_normalise(attend(units, length_normalise(faces), faces, ATTENTION_SCALE))
        pooled *= units
        return pooled.sum(axis=1)
