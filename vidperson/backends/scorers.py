"""How a row of the enrolment side and a row of the test side give a score; the rows are compared block by block."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vidperson.backends.exact import Double, length_normalise
from vidperson.backends.pooling import attend
from vidperson.backends.sets import Block, EmbeddingSets, Float, Index
from vidperson.backends.tiles import Tiling, each_cost, each_maximum, every_maximum
from vidperson.errors import ScoringError

ATTENTION_SCALE = 4.0
_PAIRS_PER_CALL = 250  # as many pairs of a matrix product take as long as calling one

Scores = NDArray[np.floating]

Side = tuple[NDArray[Any], ...]
"""What a scorer needs of some rows: arrays whose first axis is the rows, so that slicing them slices the rows."""


class Scorer(Protocol):
    """Two ragged sets of rows and how two rows are compared.

    enrolment_offsets, test_offsets: (S + 1,) int64; set s has the rows ``offsets[s]`` to ``offsets[s + 1]``.
    most_rows: of the enrolment and the test side in a block; more are no faster. The more of the enrolment side, the
        less often the test side is prepared.
    enrolment_row_bytes, test_row_bytes, pair_bytes: memory that a block takes per row and per pair of rows.
    held_bytes: memory taken in any case.
    bounds: the least and the largest score there can be.
    """

    enrolment_offsets: Index
    test_offsets: Index
    most_rows: tuple[int, int]
    enrolment_row_bytes: int
    test_row_bytes: int
    pair_bytes: int
    held_bytes: int
    bounds: tuple[float, float]

    def enrolment_side(self, rows: Index) -> Side:
        """What ``compare`` needs of these rows of the enrolment sets."""

    def test_side(self, rows: Index) -> Side:
        """What ``compare`` needs of these rows of the test sets."""

    def every(self, models: Block, enrolment: Side, videos: Block, test: Side) -> Scores:
        """(M, V) float32 or float64: the largest scores of the rows of each set of one block with each of the other.

        enrolment, test: the sides of the rows of the blocks.
        """

    def each(self, models: Block, enrolment: Side, videos: Block, test: Side, row: Index, column: Index) -> Scores:
        """(T,) of ``every``: those of the pairs (row, column), ascending by column, and no others are computed."""

    def cost(self, pairs: int, rows: float, columns: float) -> float:
        """As many pairs of rows of ``every`` take as long as ``each`` of so many pairs of sets.

        rows, columns: of the sets of all pairs, those of a set in two pairs twice.
        """


class CohortScorer(Scorer, Protocol):
    """A scorer whose scores can be normalised by a cohort. An enrolment side is one array, its unit vectors.

    test_units: whether a test side is that, too, and a score the inner product of the two; else it is one array, too.
    dim: size of the embeddings; 0 where there are none.
    """

    test_units: bool
    dim: int

    def compare(self, enrolment: Side, test: Side) -> Double:
        """(A, B) float64 scores of A enrolment and B test rows; each depends on its two rows alone."""

    def score_cohort(self, cohort: Double, test: Side) -> Double:
        """(B, C) float64 scores of C cohort faces, (C, dim) unit vectors, as enrolments of B test rows."""


class Pairwise:
    """A scorer that compares all rows of two blocks, or those of one pair of sets after the other."""

    most_rows = (4096, 1024)

    def compare(self, enrolment: Side, test: Side) -> Double:
        raise NotImplementedError

    def every(self, models: Block, enrolment: Side, videos: Block, test: Side) -> Scores:
        return largest(self.compare(enrolment, test), models.starts, videos.starts)

    def each(self, models: Block, enrolment: Side, videos: Block, test: Side, row: Index, column: Index) -> Scores:
        best = np.empty(len(row))
        for i, (m, v) in enumerate(zip(row, column, strict=True)):
            rows, columns = slice(models.starts[m], models.ends[m]), slice(videos.starts[v], videos.ends[v])
            best[i] = self.compare(tuple(a[rows] for a in enrolment), tuple(a[columns] for a in test)).max()
        return best

    def cost(self, pairs: int, rows: float, columns: float) -> float:
        return rows * columns / pairs + _PAIRS_PER_CALL * pairs


def largest(pairs: Double, starts: Index, test_starts: Index) -> Double:
    """(A, B) scores of the rows of M and V sets, which begin at the (M,) and (V,) starts, to their (M, V) maxima."""
    return np.asarray(np.maximum.reduceat(np.maximum.reduceat(pairs, test_starts, axis=1), starts, axis=0))


def check_same_size(enrolment: EmbeddingSets, test: EmbeddingSets) -> int:
    """The size of the embeddings. Raises ScoringError when that of the two sides differs."""
    if len(enrolment.embeddings) and len(test.embeddings) and enrolment.dim != test.dim:
        raise ScoringError(
            f"enrolment embeddings have {enrolment.dim} numbers, test embeddings {test.dim}; "
            "extract both with the same network"
        )
    return max(enrolment.dim, test.dim)


class Cosine(Pairwise):
    """Cosine of an enrolment and a test embedding, exact before it is rounded."""

    bounds = (-1.0, 1.0)
    test_units = True
    pair_bytes = 16

    def __init__(self, enrolment: EmbeddingSets, test: EmbeddingSets) -> None:
        """Raises ScoringError when the embedding sizes of the two sides differ."""
        self.dim = check_same_size(enrolment, test)
        self.enrolment, self.test = enrolment, test
        self.enrolment_offsets, self.test_offsets = enrolment.offsets, test.offsets
        self.enrolment_row_bytes = self.test_row_bytes = 24 * self.dim
        self.held_bytes = enrolment.embeddings.nbytes + test.embeddings.nbytes

    def enrolment_side(self, rows: Index) -> Side:
        return (length_normalise(self.enrolment.embeddings[rows]),)

    def test_side(self, rows: Index) -> Side:
        return (length_normalise(self.test.embeddings[rows]),)

    def compare(self, enrolment: Side, test: Side) -> Double:
        return enrolment[0] @ test[0].T

    def score_cohort(self, cohort: Double, test: Side) -> Double:
        return test[0] @ cohort.T

    def scales(self, sets: EmbeddingSets) -> Double:
        """(N,) what brings the N embeddings of a side to the vectors that are multiplied."""
        return 1 / row_lengths(sets.embeddings)


class TiledCosine:
    """:class:`Cosine` in float32, by products that depend on their two rows alone, see ``tiles``.

    The side whose sets have more rows is the one whose maxima are cheap: the left one of the products.
    """

    bounds = (-1.0, 1.0)
    pair_bytes = 8

    def __init__(self, cosine: Cosine, shapes: Tiling) -> None:
        self._shapes = shapes
        self._enrolment, self._test = cosine.enrolment, cosine.test
        self.enrolment_offsets, self.test_offsets = cosine.enrolment_offsets, cosine.test_offsets
        self._turned = self._test.mean_count > self._enrolment.mean_count
        high, wide = shapes.heights[0], shapes.widths[0]
        self.most_rows = (4 * wide, 2 * high) if self._turned else (16 * high, wide)
        self._scales = tuple(cosine.scales(sets) for sets in (self._enrolment, self._test))
        self.enrolment_row_bytes = self.test_row_bytes = 20 * cosine.dim
        self.held_bytes = cosine.held_bytes + sum(scales.nbytes for scales in self._scales)

    def enrolment_side(self, rows: Index) -> Side:
        return (self._side(self._enrolment.embeddings[rows], self._scales[0][rows], left=not self._turned),)

    def test_side(self, rows: Index) -> Side:
        return (self._side(self._test.embeddings[rows], self._scales[1][rows], left=self._turned),)

    def _side(self, rows: Float, scales: Double, left: bool) -> Float:
        """(N, dim) rows to unit vectors as ``tiles`` takes them."""
        if left:
            side = np.zeros((self._shapes.rows(len(rows)), rows.shape[1]), dtype=np.float32)
            np.multiply(rows, scales[:, None], out=side[: len(rows)], casting="same_kind")
            return side
        side = np.zeros((rows.shape[1], self._shapes.columns(len(rows))), dtype=np.float32)
        inside = side[:, self._shapes.guard : self._shapes.guard + len(rows)]
        np.multiply(rows.T, scales, out=inside, casting="same_kind")
        return side

    def every(self, models: Block, enrolment: Side, videos: Block, test: Side) -> Scores:
        if self._turned:
            return every_maximum(self._shapes, test[0], videos, enrolment[0], models).T
        return every_maximum(self._shapes, enrolment[0], models, test[0], videos)

    def each(self, models: Block, enrolment: Side, videos: Block, test: Side, row: Index, column: Index) -> Scores:
        if self._turned:
            return each_maximum(self._shapes, test[0], videos, enrolment[0], models, column, row)
        return each_maximum(self._shapes, enrolment[0], models, test[0], videos, row, column)

    def cost(self, pairs: int, rows: float, columns: float) -> float:
        return each_cost(self._shapes, *((columns, rows) if self._turned else (rows, columns)))


def row_lengths(embeddings: Float) -> Double:
    """(N, dim) to the (N,) float64 lengths; 1 for a zero vector, which stays one when divided by it."""
    lengths = np.empty(len(embeddings))
    for begin in range(0, len(embeddings), 1024):
        rows = np.square(embeddings[begin : begin + 1024], dtype=np.float64)
        lengths[begin : begin + 1024] = np.sqrt(rows.sum(axis=1))
    lengths[lengths == 0] = 1.0
    return lengths


class WholeVideo(Pairwise):
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
