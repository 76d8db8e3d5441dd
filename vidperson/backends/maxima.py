"""The largest scores between sets of rows, and for inner products without computing all of them in full precision."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from vidperson.backends.exact import Double
from vidperson.backends.sets import Index

Precision = TypeVar("Precision", bound=np.floating)

_LEAST_PAIRS = 128  # per pair of sets: with fewer, the products that are computed again cost more than is saved
_ROWS = 2048  # of the left side at a time
_PAIRS = 128  # whose exact products are computed at a time


def largest(pairs: NDArray[Precision], starts: Index, test_starts: Index) -> NDArray[Precision]:
    """(A, B) scores of the rows of M and V sets, which begin at the (M,) and (V,) starts, to their (M, V) maxima."""
    return np.asarray(np.maximum.reduceat(np.maximum.reduceat(pairs, test_starts, axis=1), starts, axis=0))


def largest_products(left: Double, starts: Index, right: Double, right_starts: Index) -> Double | None:
    """The maxima of the inner products of the (A, dim) and (B, dim) rows of M and V sets, as :func:`largest` of
    ``left @ right.T`` gives them, to the last bit; None where that is the faster way.

    left, right: rows of length 1 or 0, see ``length_normalise``. starts, right_starts: as for :func:`largest`.

    Products in float32 take half the time and tell which pairs may be the largest of two sets: an inner product of n
    terms that is added up in any order errs by at most n u / (1 - n u) times the lengths, u = 2^-24 (N. J. Higham,
    Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1), to which rounding the numbers adds 2 u. Of
    the pairs that come within twice that of the largest, mostly one, the exact products are taken.
    """
    if len(starts) * len(right_starts) * _LEAST_PAIRS > len(left) * len(right):
        return None
    maxima = np.full((len(starts), len(right_starts)), -np.inf)
    margin = np.float32(2.1 * 2.0**-24 * (left.shape[1] + 8))
    rough_right = right.astype(np.float32).T
    owners_right = np.repeat(np.arange(len(right_starts)), np.diff(right_starts, append=len(right)))
    ends = np.append(starts[1:], len(left))
    first, most = 0, max(_ROWS, int((ends - starts).max()))
    # Memory that is used again is in the cache, and need not be asked for.
    rough_left = np.empty((most, left.shape[1]), dtype=np.float32)
    all_rough, all_hopeful = np.empty((most, len(right)), dtype=np.float32), np.empty((most, len(right)), dtype=bool)
    while first < len(starts):
        last = max(int(np.searchsorted(ends, starts[first] + _ROWS, side="right")), first + 1)
        begin = int(starts[first])
        here = left[begin : ends[last - 1]]
        rough_left[: len(here)] = here
        rough = np.matmul(rough_left[: len(here)], rough_right, out=all_rough[: len(here)])
        least = largest(rough, starts[first:last] - begin, right_starts) - margin
        hopeful = all_hopeful[: len(here)]
        for own, low, high in zip(least.take(owners_right, axis=1), starts[first:last], ends[first:last], strict=True):
            np.greater_equal(rough[low - begin : high - begin], own, out=hopeful[low - begin : high - begin])
        found = np.flatnonzero(hopeful)
        if len(found) * _LEAST_PAIRS > 2 * rough.size:
            return None
        rows, columns = np.divmod(found, len(right))
        owners = np.searchsorted(ends, begin + rows, side="right")
        for some in range(0, len(rows), _PAIRS):
            r, c = rows[some : some + _PAIRS], columns[some : some + _PAIRS]
            products = np.einsum("ij,ij->i", here[r], right[c])
            np.maximum.at(maxima, (owners[some : some + _PAIRS], owners_right[c]), products)
        first = last
    return maxima
