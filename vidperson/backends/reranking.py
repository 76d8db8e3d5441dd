"""Re-ranking of search results by who else is near: k-reciprocal encoding and expanded cross neighbourhood.

Both look at all vectors together, those of the queries first, and at nothing but the nearest neighbours of each. So
distances are made in blocks of rows, and everything else is sparse: results are those of the definitions over full
matrices, without such matrices. Distances are squared Euclidean ones: of vectors of length 1 they are 2 - 2 cosines.

Vectors are rounded to multiples of 2^-25 of the longest one, on which distances and the sums behind them are exact
(see ``exact``). Bits depend neither on blocks nor on the order of the gallery. Of equal distances the vector that
comes first is the nearer one; only there the order of the gallery matters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from vidperson.backends.exact import Double, round_to_grid
from vidperson.errors import ScoringError

Float = NDArray[np.float32]
Index = NDArray[np.int64]

MAX_BYTES = 1 << 27  # 128 MiB
_DISTANCE_BITS = 25  # products of two numbers are multiples of 2^-50, and squared distances are at most 4
_SHARE_BITS = 40  # shares are at most 1, some thousands of them are summed
_RANK_BITS = 36  # ranks divided by their span; sums stay below 2^17
_AT_ONCE = 1 << 19  # distances that are searched at once: 4 MiB
_PAIRS_AT_ONCE = 2048


def k_reciprocal(
    queries: NDArray[np.floating],
    gallery: NDArray[np.floating] | None,
    k1: int = 20,
    k2: int = 6,
    weight: float = 0.3,
    max_bytes: int = MAX_BYTES,
) -> Float:
    """Distances re-ranked by k-reciprocal encoding (Zhong et al., CVPR 2017).

    queries, gallery: (Q, D) and (G, D) embeddings; make rows of length 1 for cosine distances. Without a gallery
        (None) it is the queries themselves, and none is there twice.
    k1: neighbours that may be reciprocal ones. k2: neighbours, the vector itself included, whose encodings are
        averaged. Fewer vectors than that are fine.
    weight: of the original distance in the result, 0..1; the rest weighs the Jaccard distance.
    max_bytes: memory for a block of distances. Beside it there are 8 bytes per number of the embeddings, the result,
        and what grows with (Q + G) k1: some kB per vector. Changes nothing else.
    Returns (Q, G) float32 distances in 0..1. Each row of original distances counts in units of its largest one.
    Raises ScoringError for embeddings that do not fit together and for settings out of range.
    """
    if k1 < 1 or k2 < 1 or not 0 <= weight <= 1:
        raise ScoringError(f"k1 and k2 must be >= 1, weight 0..1; found k1 {k1}, k2 {k2}, weight {weight}")
    vectors = _Vectors(queries, gallery)
    asked, total = len(queries), len(vectors.rows)
    first = 0 if gallery is None else asked
    result = np.empty((asked, total - first), dtype=np.float32)
    if result.size == 0:
        return result
    count = min(max(k1 + 1, k2), total)
    nearest, near = np.empty((total, count), dtype=np.int64), np.empty((total, count))
    farthest = np.empty(total)
    for begin, block in vectors.blocks(max_bytes):
        rows = slice(begin, begin + len(block))
        nearest[rows], near[rows] = _smallest(block, count)
        farthest[rows] = block.max(axis=1)
        result[rows] = block[: max(asked - begin, 0), first:]
    farthest[farthest == 0] = 1.0  # all vectors are the same
    near /= farthest[:, None]
    result /= farthest[:asked, None].astype(np.float32)
    encodings = _averaged(_encodings(vectors, nearest, near, farthest, k1, max_bytes), nearest[:, :k2])
    for i, shared in enumerate(_shared(encodings[:asked], encodings[first:])):
        result[i] = (1 - weight) * (1 - shared / (2 - shared)) + weight * result[i]
    return result


def expanded_cross_neighbourhood(
    queries: NDArray[np.floating],
    gallery: NDArray[np.floating] | None,
    k: int = 25,
    t: int = 3,
    q: int = 8,
    max_bytes: int = MAX_BYTES,
) -> Float:
    """Distances re-ranked by the expanded cross neighbourhood of rank lists (ECN; Sarfraz et al., CVPR 2018).

    The mean rank-list distance of the neighbours of one vector to the other, both ways. Neighbours are the t nearest
    and the q nearest of each of these, so that some count more than once. The similarity of two rank lists is the sum
    of (k + 1 - rank)+ (k + 1 - rank')+ over all vectors, scaled so that each row has a minimum of 0 and a maximum of 1.

    queries, gallery, max_bytes: as for :func:`k_reciprocal`. k: length of rank lists. Fewer vectors are fine.
    Returns (Q, G) float32 distances in 0..1.
    Raises ScoringError for embeddings that do not fit together and for settings out of range.
    """
    if min(k, t, q) < 1:
        raise ScoringError(f"k, t and q must be >= 1; found k {k}, t {t}, q {q}")
    vectors = _Vectors(queries, gallery)
    asked, total = len(queries), len(vectors.rows)
    first = 0 if gallery is None else asked
    result = np.empty((asked, total - first), dtype=np.float32)
    if result.size == 0:
        return result
    count = min(max(k, t + 1, q + 1), total)
    nearest = np.empty((total, count), dtype=np.int64)
    for begin, block in vectors.blocks(max_bytes):
        nearest[begin : begin + len(block)] = _smallest(block, count)[0]
    listed = nearest[:, :k]
    ranks = _rows(listed, np.broadcast_to(k - np.arange(listed.shape[1], dtype=np.float64), listed.shape))
    most, least = float(np.square(ranks.data[: listed.shape[1]]).sum()), _least_similar(ranks, max_bytes)
    least[least == most] = 0.0  # all lists are the same
    inner = nearest[:, 1 : t + 1]
    outer = nearest[inner, 1 : q + 1].reshape(total, -1)
    around = np.concatenate([inner, outer], axis=1)
    neighbours = _rows(around, np.ones(around.shape))
    scaled = ranks.multiply(1 / (most - least)[:, None]).tocsr()
    scaled.data = round_to_grid(scaled.data, _RANK_BITS)
    sums = neighbours @ scaled
    floors = neighbours @ round_to_grid(least / (most - least), _RANK_BITS)
    at_once = max(max_bytes // (40 * (total - first)), 1)
    for begin in range(0, asked, at_once):
        rows = slice(begin, min(begin + at_once, asked))
        similar = (sums[rows] @ ranks[first:].T + ranks[rows] @ sums[first:].T).toarray()
        similar -= floors[rows, None]
        similar -= floors[first:]
        result[rows] = 1 - similar / (2 * max(around.shape[1], 1))
    return result


class _Vectors:
    """All vectors, on a grid on which their squared distances are exact; the longest has a length of 0.5 to 1."""

    def __init__(self, queries: NDArray[np.floating], gallery: NDArray[np.floating] | None) -> None:
        gallery = queries[:0] if gallery is None else gallery
        for name, rows in (("queries", queries), ("gallery", gallery)):
            if rows.ndim != 2:
                raise ScoringError(f"{name}: expected an array of the shape (N, dim), found {rows.shape}")
            if not np.isfinite(rows).all():
                raise ScoringError(f"{name}: expected finite embeddings, found NaN or infinity")
        self.dim = queries.shape[1]
        if gallery.shape[1] != self.dim:
            raise ScoringError(f"queries have {self.dim} numbers, gallery has {gallery.shape[1]}: embed both alike")
        # A row is x, 1, |x|^2, so that its product with -2 y, |y|^2, 1 is the squared distance to y.
        self.rows = np.ones((len(queries) + len(gallery), self.dim + 2))
        own = self.rows[:, : self.dim]
        own[: len(queries)], own[len(queries) :] = queries, gallery
        longest = math.sqrt(np.einsum("ij,ij->i", own, own).max(initial=0.0))
        own *= math.ldexp(1.0, _DISTANCE_BITS - math.frexp(longest)[1])
        np.rint(own, out=own)
        own *= math.ldexp(1.0, -_DISTANCE_BITS)
        self.rows[:, -1] = np.einsum("ij,ij->i", own, own)

    def blocks(self, max_bytes: int) -> Iterator[tuple[int, Double]]:
        """First row, and the (B, N) squared distances of B rows, which are overwritten by the next block."""
        total = len(self.rows)
        at_once = min(max(max_bytes // (8 * total), 1), total)
        space = np.empty((at_once, total))
        for begin in range(0, total, at_once):
            left = -2 * self.rows[begin : begin + at_once]
            left[:, -2], left[:, -1] = self.rows[begin : begin + at_once, -1], 1.0
            yield begin, np.matmul(left, self.rows.T, out=space[: len(left)])

    def distances(self, one: Index, other: Index) -> Double:
        """(P,) squared distances of pairs of vectors."""
        found = np.empty(len(one))
        for begin in range(0, len(one), _PAIRS_AT_ONCE):
            pairs = slice(begin, begin + _PAIRS_AT_ONCE)
            left, right = self.rows[one[pairs]], self.rows[other[pairs]]
            products = np.einsum("ij,ij->i", left[:, : self.dim], right[:, : self.dim])
            found[pairs] = left[:, -1] + right[:, -1] - 2 * products
        return found


def _smallest(distances: Double, count: int) -> tuple[Index, Double]:
    """(B, N) distances to the (B, count) columns of the smallest, ascending by distance and column, and to these."""
    total = distances.shape[1]
    # The count-th smallest of minima of groups is no smaller than the count-th smallest distance, and little larger
    # where there are many groups. Columns side by side are in different groups: neighbours often come together.
    layers = max(total // (16 * count), 1)
    groups = total // layers
    columns, found = np.empty((len(distances), count), dtype=np.int64), np.empty((len(distances), count))
    at_once = max(_AT_ONCE // total, 1)
    for begin in range(0, len(distances), at_once):
        some = distances[begin : begin + at_once]
        minima = some[:, : layers * groups].reshape(len(some), layers, groups).min(axis=1)
        minima.partition(count - 1, axis=1)
        places = np.flatnonzero(some <= minima[:, count - 1, None])
        row, column = np.divmod(places, total)
        values = some.ravel()[places]
        order = np.lexsort((values, row))  # stable: equal distances stay in the order of columns
        best = order[np.searchsorted(row, np.arange(len(some)))[:, None] + np.arange(count)]
        columns[begin : begin + at_once], found[begin : begin + at_once] = column[best], values[best]
    return columns, found


def _rows(columns: Index, values: NDArray[np.generic]) -> sparse.csr_array:
    """(N, K) columns and their values to an (N, N) sparse array; columns that come again are summed."""
    total, count = columns.shape
    # Copies, as they are sorted in place.
    parts = values.flatten(), columns.astype(np.int32).ravel(), np.arange(total + 1) * count
    array = sparse.csr_array(parts, shape=(total, total))
    array.sum_duplicates()
    return array


def _mutual(nearest: Index) -> sparse.csr_array:
    """(N, K) nearest neighbours to the (N, N) ones of those that are so both ways."""
    links = _rows(nearest, np.ones(nearest.shape, dtype=np.int32))
    return links.multiply(links.T).tocsr()


def _encodings(
    vectors: _Vectors, nearest: Index, near: Double, farthest: Double, k1: int, max_bytes: int
) -> sparse.csr_array:
    """(N, N) encodings: exp(-distance) to reciprocal neighbours and to theirs, as shares of the row's sum.

    nearest, near: (N, K) neighbours and their distances in units of the row's largest one, (N,) farthest.
    """
    total, count = nearest.shape
    half = round(k1 / 2) + 1  # halves to even
    mutual, closer = _mutual(nearest[:, : k1 + 1]), _mutual(nearest[:, :half])
    sizes = np.diff(closer.indptr)
    known = _rows(nearest, near)
    parts = []
    at_once = max(max_bytes // (64 * count * half), 1)
    for begin in range(0, total, at_once):
        some = mutual[begin : begin + at_once]
        common = (some @ closer.T).multiply(some).tocsr()
        common.data = (3 * common.data > 2 * sizes[common.indices]).astype(np.int32)
        common.eliminate_zeros()
        expanded = (some + common @ closer).tocsr()
        expanded.sort_indices()
        row = np.repeat(np.arange(begin, begin + expanded.shape[0]), np.diff(expanded.indptr))
        distances = _look_up(vectors, known[begin : begin + at_once], begin, row, expanded.indices, farthest)
        weights = round_to_grid(np.exp(-distances), _SHARE_BITS)
        weights /= np.bincount(row - begin, weights)[row - begin]
        shares = round_to_grid(weights, _SHARE_BITS)
        parts.append(sparse.csr_array((shares, expanded.indices, expanded.indptr), shape=expanded.shape))
    return sparse.vstack(parts, format="csr")


def _look_up(
    vectors: _Vectors, known: sparse.csr_array, first: int, row: Index, column: Index, farthest: Double
) -> Double:
    """Distances of pairs, ascending by row and column, in units of the row's largest one: known ones, or made.

    known: distances from the rows ``first`` and following.
    """
    listed = np.repeat(np.arange(first, first + known.shape[0]), np.diff(known.indptr)) * known.shape[1] + known.indices
    wanted = row * known.shape[1] + column
    place = np.minimum(np.searchsorted(listed, wanted), len(listed) - 1)
    distances = known.data[place]
    missing = np.flatnonzero(listed[place] != wanted)
    distances[missing] = vectors.distances(row[missing], column[missing]) / farthest[row[missing]]
    return distances


def _averaged(encodings: sparse.csr_array, nearest: Index) -> sparse.csr_array:
    """The mean encodings of the (N, K) nearest neighbours of each vector."""
    if nearest.shape[1] == 1:
        return encodings
    means = (_rows(nearest, np.ones(nearest.shape)) @ encodings).tocsr()
    means.data = round_to_grid(means.data / nearest.shape[1], _SHARE_BITS)
    return means


def _shared(asked: sparse.csr_array, others: sparse.csr_array) -> Iterator[Double]:
    """For each of the encodings that are asked for the (G,) sums of its minima with each of the others."""
    others = others.T.tocsr()
    lengths = np.diff(others.indptr)
    for begin, end in zip(asked.indptr[:-1], asked.indptr[1:], strict=True):
        columns = asked.indices[begin:end]
        size = lengths[columns]
        places = np.arange(size.sum()) + np.repeat(others.indptr[columns] - np.cumsum(size) + size, size)
        minima = np.minimum(others.data[places], np.repeat(asked.data[begin:end], size))
        # Shares of a row may sum to a little over 1.
        yield np.minimum(np.bincount(others.indices[places], minima, minlength=others.shape[1]), 1.0)


def _least_similar(ranks: sparse.csr_array, max_bytes: int) -> Double:
    """(N,) smallest similarity of each rank list to any."""
    total = ranks.shape[0]
    least = np.zeros(total)
    # Who meets fewer than all lists has one with which there is nothing in common.
    links = sparse.csr_array((np.ones(ranks.nnz, dtype=np.int64), ranks.indices, ranks.indptr), shape=ranks.shape)
    rows = np.flatnonzero(links @ links.sum(axis=0) >= total)
    at_once = max(max_bytes // (24 * total), 1)
    for begin in range(0, len(rows), at_once):
        some = rows[begin : begin + at_once]
        least[some] = (ranks[some] @ ranks.T).toarray().min(axis=1)
    return least
