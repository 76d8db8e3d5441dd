"""Who of many persons is in a segment: vectors of segments, and what scores them for every person.

The items of a segment become a vector per track (``pool``). A person is enrolled by the main tracks of its segments,
or by an identifier, a network that was trained on such vectors. The score of a segment for a person is that of its best
track. Every score depends on its track alone, to the last bit: not on the other segments, their order or number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vidperson.backends.exact import (
    UNIT_BITS,
    Double,
    bits_for_sum,
    length_normalise,
    mean_row,
    round_to_grid,
    with_lengths,
)
from vidperson.backends.tiles import maxima, tiling
from vidperson.backends.tracks import link, unit_means
from vidperson.errors import ScoringError

Float = NDArray[np.float32]
Index = NDArray[np.int64]

SCORE_COLUMN = 6
"""Of the items: the score of the detection."""

NEAREST = 10
SHIFT_SHARE = 0.5
SHRINKAGE = 0.3
LINK_COSINE = 0.3
"""Of 1,674 pairs of successive faces of a person in real clips, 1 in 1,000 has less than 0.38; 95 % of the pairs of
different persons have less than 0.25 (the network that ships)."""
_ROWS_AT_ONCE = 2112
_ROWS_OF_NEAR = 528


def item_weights(
    count: int, items: Float | None = None, quality: Float | None = None, given: Float | None = None
) -> Double:
    """(N,) float64 weights of a segment's items, without the length of their embeddings, see :func:`pool`.

    items: (N, 7 or more) float32, the detection score in column 6. quality: (N, 2) float32, the second the share of the
        item that is black, 0..1. The weight is score * (1 - black share); what is not there does not count.
    given: (N, 1) float32 weights to take instead.
    Raises ScoringError where the rows are not ``count``, and for weights that are negative or not finite.
    """
    weights = np.ones(count)
    for name, table, columns in (("items", items, SCORE_COLUMN + 1), ("quality", quality, 2), ("weights", given, 1)):
        if table is not None and (len(table) != count or (count and table.shape[1] < columns)):
            found = f"{len(table)} of {table.shape[1] if table.ndim > 1 else 0} numbers"
            raise ScoringError(f"{name}: expected {count} rows of {columns} numbers or more, found {found}")
    if not count:
        return weights
    if given is not None:
        weights *= given[:, 0]
    else:
        if items is not None:
            weights *= items[:, SCORE_COLUMN]
        if quality is not None:
            weights *= 1 - np.clip(quality[:, 1], 0, 1)
    if not (weights >= 0).all() or not np.isfinite(weights).all():
        raise ScoringError(f"expected weights of items from 0 on, found {weights.min():g}")
    return weights


@dataclass(frozen=True)
class Pooled:
    """The tracks of a segment; none is a normal case.

    vectors: (T, D) float32, finite. weights: (T,) float64, the sum of the weights of each track's items.
    labels: (N,) int64, the track of each item.
    areas: (T,) float64, the sum of the areas of each track's items; None: not known.
    """

    vectors: Float
    weights: Double
    labels: Index
    areas: Double | None = None

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def main(self) -> int | None:
        """The track with the largest weight, the first of several; None where there is no track."""
        return int(np.argmax(self.weights)) if len(self.weights) else None

    @property
    def largest(self) -> int | None:
        """The track with the largest areas; where these are not known, or alike, the heavier one, see :attr:`main`.

        Of a portrait it is the person who is meant more often: networks may give long embeddings to blurred bystanders.
        """
        if self.areas is None or not len(self):
            return self.main
        return int(np.lexsort((-self.weights, -self.areas))[0])


def pool(embeddings: Sequence[Float], items: Float | None, weights: Double, link_cosine: float = LINK_COSINE) -> Pooled:
    """The vector of each track of a segment, the same in any order of the items.

    embeddings: of each of K embedders (N, D_k) float32, row by row of the same items, as the network gave them.
    items: (N, 6 or more) float32 frame, time_s, x1, y1, x2, y2 of each item, which link tracks, as do the embeddings
        of the first embedder, see ``tracks.link``. None: all items are one track.
    weights: (N,) float64 as :func:`item_weights` gives them.
    link_cosine: the lowest cosine of successive items of a track.
    Per track and embedder it is the mean of the unit vectors, each weighted by its weight times the length of the
    embedding: networks give short ones for poor items. It is length-normalised, and those of the K embedders stand one
    behind the other: (T, D_1 + ... + D_K). A track without weight takes its items alike.
    Raises ScoringError for embeddings that are not as many as the weights, or not finite.
    """
    count = len(weights)
    for rows in embeddings:
        if rows.ndim != 2 or len(rows) != count:
            raise ScoringError(f"expected embeddings of {count} items, found {rows.shape}")
    if items is not None and (len(items) != count or (count and items.shape[1] < SCORE_COLUMN)):
        raise ScoringError(f"expected frames and boxes of {count} items, found {items.shape}")
    if not count:
        return Pooled(np.zeros((0, sum(rows.shape[1] for rows in embeddings)), np.float32), weights, np.zeros(0, int))
    with np.errstate(invalid="ignore"):
        units, lengths = zip(*map(with_lengths, embeddings), strict=True)
    if not all(np.isfinite(each).all() for each in lengths):
        raise ScoringError("NaN or infinite embedding; extract it again")
    heavy = [weights * norms for norms in lengths]
    labels, areas = np.zeros(count, dtype=np.int64), None
    if items is not None:
        labels = link(units[0], items, link_cosine)
        areas = _sums(labels, np.clip(items[:, 4:6] - items[:, 2:4], 0, None).astype(np.float64).prod(axis=1))
    vectors = [unit_means(each, labels, own).astype(np.float32) for each, own in zip(units, heavy, strict=True)]
    return Pooled(np.concatenate(vectors, axis=1), _sums(labels, heavy[0]), labels, areas)


def _sums(labels: Index, weights: Double) -> Double:
    """(T,) sums of the (N,) weights of each track, the same in any order."""
    most = float(weights.max())
    if most <= 0:
        return np.zeros(labels.max() + 1)
    return np.asarray(np.bincount(labels, round_to_grid(weights / most, bits_for_sum(len(weights)))) * most)


class Searcher(Protocol):
    """What scores vectors for persons.

    models: the persons, in the order of the scores, which is that of the C locale.
    """

    models: tuple[str, ...]

    def scores(self, vectors: Float) -> Float:
        """(V, D) vectors of tracks -> (V, P) float32, larger is better; each row depends on its vector alone."""


def class_means(vectors: Float, persons: Sequence[str]) -> tuple[tuple[str, ...], Float]:
    """The persons in C-locale order, and the (P, D) float32 unit mean of the (C, D) unit vectors of each.

    persons: of each vector. The order of the vectors does not matter.
    """
    names = tuple(sorted(set(persons), key=str.encode))
    where = {name: i for i, name in enumerate(names)}
    index = np.array([where[name] for name in persons], dtype=np.int64)
    order = np.argsort(index, kind="stable")
    bounds = np.searchsorted(index[order], np.arange(len(names) + 1))
    means = np.empty((len(names), vectors.shape[1]), dtype=np.float32)
    for i in range(len(names)):
        means[i] = length_normalise(mean_row(vectors[order[bounds[i] : bounds[i + 1]]]))[0]
    return names, means


class Products:
    """Inner products with the P columns of a (D, P) matrix; each depends on its vector and column alone."""

    def __init__(self, columns: NDArray[np.floating]) -> None:
        self._shapes = tiling(len(columns))
        self._count = columns.shape[1]
        if self._shapes is None:  # no tiles on this machine: exact products, which are slower
            longest = float(np.sqrt(np.square(columns, dtype=np.float64).sum(axis=0).max(initial=0.0)))
            self._scale = math.ldexp(1.0, math.frexp(longest)[1])
            self._exact = round_to_grid(columns / self._scale, UNIT_BITS)
        else:
            guard = self._shapes.guard
            self._right = np.zeros((len(columns), self._shapes.columns(self._count)), dtype=np.float32)
            self._right[:, guard : guard + self._count] = columns

    def __call__(self, units: Double) -> Float:
        """(V, D) vectors of length 1, as ``length_normalise`` gives them -> (V, P) float32."""
        if self._shapes is None:
            return np.asarray(units @ self._exact * self._scale, dtype=np.float32)
        left = np.zeros((self._shapes.rows(len(units)), units.shape[1]), dtype=np.float32)
        left[: len(units)] = units
        rows, columns = np.arange(len(units)), np.arange(self._count)
        return maxima(self._shapes, left, rows, len(rows), self._right, columns, len(columns))


class ClassMean:
    """Cosine of a track and the mean of the person's segments.

    models: P persons. means: (P, D) float32 unit vectors, as :func:`class_means` gives them.
    """

    def __init__(self, models: Sequence[str], means: Float) -> None:
        self.models = tuple(models)
        self._products = Products(means.T)

    def scores(self, vectors: Float) -> Float:
        return self._products(length_normalise(vectors))


class ShiftedClassMean(ClassMean):
    """:class:`ClassMean` less half the mean cosine of the track and the 10 nearest of all means and known strangers.

    A track that is near to many is near to this person by chance. strangers: (S, D) float32 unit vectors, may be none.
    """

    def __init__(self, models: Sequence[str], means: Float, strangers: Float) -> None:
        super().__init__(models, means)
        self._strangers = Products(strangers.T)
        self._nearest = min(NEAREST, len(means) + len(strangers))

    def scores(self, vectors: Float) -> Float:
        found = super().scores(vectors)
        for begin in range(0, len(vectors), _ROWS_OF_NEAR):
            some = slice(begin, begin + _ROWS_OF_NEAR)
            near = np.concatenate([found[some], self._strangers(length_normalise(vectors[some]))], axis=1)
            near = np.partition(near, -self._nearest, axis=1)[:, -self._nearest :]
            # Sorted, so that the sum does not depend on the order of the strangers.
            shift = np.sort(near, axis=1).astype(np.float64).sum(axis=1) / self._nearest
            found[some] -= (SHIFT_SHARE * shift[:, None]).astype(np.float32)
        return found


class Whitening:
    """Takes vectors to where those of the enrolment segments spread alike in all directions.

    Jégou and Chum, "Negative evidences and co-occurences in image retrieval: the benefit of PCA and whitening" (ECCV
    2012), by their total covariance C, shrunk as in Ledoit and Wolf, "A well-conditioned estimator for
    large-dimensional covariance matrices" (2004), by a fixed share s: (1 - s) C + s tr(C) / D I.

    vectors: (C, D) float32 of all enrolment segments, those of known strangers too; they may be mapped into memory.
    rows: (C',) int64 which of them to take; None: all.
    Raises ScoringError where all vectors are the same.

    origin: (D,) float64. matrix: (D, D) float64: x goes to (x - origin) @ matrix, at unit length.
    """

    def __init__(self, vectors: Float, rows: Index | None = None) -> None:
        # On a coarse grid the sums are exact, and the same in any order.
        count, dim = len(vectors) if rows is None else len(rows), vectors.shape[1]
        bits = (53 - math.ceil(math.log2(max(count, 2)))) // 2
        total, squares = np.zeros(dim), np.zeros((dim, dim))
        for begin in range(0, count, _ROWS_AT_ONCE):
            some = slice(begin, begin + _ROWS_AT_ONCE)
            units = round_to_grid(length_normalise(vectors[some if rows is None else rows[some]]), bits)
            total += units.sum(axis=0)
            squares += units.T @ units
        self.origin = total / max(count, 1)
        covariance = squares / max(count, 1) - np.outer(self.origin, self.origin)
        spread = float(np.trace(covariance)) / dim
        if not spread > 1e-12:
            raise ScoringError(f"expected enrolment segments that differ, found {count} that do not")
        covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * spread * np.eye(dim)
        # Of the lower factor L of the inverse, L L' = S^-1: (x L)(y L)' = x S^-1 y'.
        self.matrix = np.linalg.cholesky(np.linalg.inv(covariance)) * math.sqrt(spread)
        self._products = Products(self.matrix)

    def apply(self, vectors: Float) -> Float:
        """(V, D) to (V, D) float32 unit vectors; each depends on its vector alone."""
        moved = length_normalise(length_normalise(vectors) - self.origin)
        return length_normalise(self._products(moved)).astype(np.float32)


class Whitened:
    """A searcher that takes whitened vectors."""

    def __init__(self, searcher: Searcher, whitening: Whitening) -> None:
        self.models = searcher.models
        self.searcher, self.whitening = searcher, whitening

    def scores(self, vectors: Float) -> Float:
        return self.searcher.scores(self.whitening.apply(vectors))


class Identifier:
    """A network from vectors to scores of persons.

    labels: the P' persons in the order of its outputs. models: those to score.
    run: (batch, D) float32 -> (batch, P') float32. batch: vectors per call; the last call is filled up.
    Raises ScoringError for models that it does not know.
    """

    def __init__(
        self,
        labels: Sequence[str],
        models: Sequence[str],
        run: Callable[[Float], Float],
        batch: int = 256,
    ) -> None:
        self.models = tuple(models)
        where = {label: i for i, label in enumerate(labels)}
        unknown = [model for model in models if model not in where]
        if unknown:
            first = ", ".join(unknown[:3]) + (", ..." if unknown[3:] else "")
            cure = "train another identifier with them, or leave this one out"
            found = f"{len(unknown)} of {len(models)} searched persons are not among its labels: {first}"
            raise ScoringError(f"{found}; {cure}")
        self._outputs = np.array([where[model] for model in models], dtype=np.int64)
        self._all = len(labels)
        self._run, self._batch = run, batch

    def scores(self, vectors: Float) -> Float:
        """Raises ScoringError where the network gives other than one finite score per label."""
        found = np.empty((len(vectors), len(self.models)), dtype=np.float32)
        for begin in range(0, len(vectors), self._batch):
            some = vectors[begin : begin + self._batch]
            rows = np.zeros((self._batch, vectors.shape[1]), dtype=np.float32)
            rows[: len(some)] = some
            scores = self._run(rows)
            if scores.shape != (self._batch, self._all):
                raise ScoringError(f"expected ({self._batch}, {self._all}) scores of the network, found {scores.shape}")
            found[begin : begin + len(some)] = scores[: len(some), self._outputs]
        if not np.isfinite(found).all():
            raise ScoringError("the network gives scores that are NaN or infinite")
        return found


class SomeColumns:
    """A searcher that takes some of the numbers of each vector, such as those of one embedder.

    columns: (D',) int64, in the order in which the searcher takes them.
    """

    def __init__(self, searcher: Searcher, columns: Index) -> None:
        self.models = searcher.models
        self.searcher, self.columns = searcher, columns

    def scores(self, vectors: Float) -> Float:
        return self.searcher.scores(vectors[:, self.columns])


def as_compared(searcher: Searcher, vectors: Float) -> Double | None:
    """What a searcher takes cosines of: (V, D) vectors of tracks to (V, D') unit vectors; None for one that takes none.

    Those of a person's segments lie in the same space, so the nearest of them can be told.
    """
    if isinstance(searcher, SomeColumns):
        return as_compared(searcher.searcher, vectors[:, searcher.columns])
    if isinstance(searcher, Whitened):
        return as_compared(searcher.searcher, searcher.whitening.apply(vectors))
    return length_normalise(vectors) if isinstance(searcher, ClassMean) else None


@dataclass(frozen=True)
class Standard:
    """Mean and deviation of the scores of enrolment segments for persons that they do not show."""

    mean: float
    deviation: float


def measure(searcher: Searcher, vectors: Float, persons: Sequence[str]) -> Standard:
    """What the scores of a searcher are for the wrong persons.

    vectors: (C, D) of enrolment segments, in an order of their own. persons: whom each shows.
    Raises ScoringError where there is no wrong person, or all scores are the same.
    """
    where = {model: i for i, model in enumerate(searcher.models)}
    count, total, squares = 0, 0.0, 0.0
    for begin in range(0, len(vectors), _ROWS_AT_ONCE):
        scores = searcher.scores(vectors[begin : begin + _ROWS_AT_ONCE]).astype(np.float64)
        own = [
            (row, where[person]) for row, person in enumerate(persons[begin : begin + _ROWS_AT_ONCE]) if person in where
        ]
        for row, column in own:
            scores[row, column] = 0.0
        count += scores.size - len(own)
        total += float(scores.sum(axis=1).sum())
        squares += float(np.square(scores).sum(axis=1).sum())
    mean = total / max(count, 1)
    variance = squares / max(count, 1) - mean**2
    if count < 2 or variance <= 0:
        raise ScoringError("expected enrolment segments with different scores for other persons, to standardise scores")
    return Standard(mean, float(np.sqrt(variance)))


class Fusion:
    """The mean of the standardised scores of several searchers of the same persons.

    parts: the searchers and what standardises each.
    """

    def __init__(self, parts: Sequence[tuple[Searcher, Standard]]) -> None:
        self._parts = list(parts)
        self.models = self._parts[0][0].models

    def scores(self, vectors: Float) -> Float:
        total = np.zeros((len(vectors), len(self.models)))
        for searcher, standard in self._parts:
            total += (searcher.scores(vectors) - standard.mean) / standard.deviation
        return np.asarray(total / len(self._parts), dtype=np.float32)


def columns_of(sizes: Mapping[str, int], names: Sequence[str]) -> Index:
    """(D',) int64: which numbers of a vector of several embedders are those of ``names``, in that order.

    sizes: embedder -> numbers of its embeddings, in the order of the vector. Raises KeyError for one that lacks.
    """
    starts = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist(), strict=False))
    return np.concatenate([np.arange(starts[name], starts[name] + sizes[name]) for name in names])
