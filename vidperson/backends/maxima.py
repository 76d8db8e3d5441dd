"""The largest scores between sets of rows, and for inner products without computing all of them in full precision."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vidperson.backends.exact import Double
from vidperson.backends.sets import Index

_LEAST_PAIRS = 128  # per pair of sets: with fewer, the products that are computed again cost more than is saved
_ROWS = 2048  # of the left side at a time: more save no time, but take memory
_PAIRS = 128  # whose exact products are computed at a time


def largest(pairs: NDArray[np.floating], starts: Index, test_starts: Index) -> NDArray[np.floating]:
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
    first = 0
    while first < len(starts):
        last = max(int(np.searchsorted(ends, starts[first] + _ROWS, side="right")), first + 1)
        here = left[starts[first] : ends[last - 1]]
        rough = here.astype(np.float32) @ rough_right
        least = largest(rough, starts[first:last] - starts[first], right_starts) - margin
        owners = np.repeat(np.arange(last - first), ends[first:last] - starts[first:last])
        hopeful = np.flatnonzero(rough >= least.take(owners_right, axis=1).take(owners, axis=0))
        if len(hopeful) * _LEAST_PAIRS > 2 * rough.size:
            return None
        rows, columns = np.divmod(hopeful, len(right))
        for begin in range(0, len(rows), _PAIRS):
            r, c = rows[begin : begin + _PAIRS], columns[begin : begin + _PAIRS]
            products = np.einsum("ij,ij->i", here[r], right[c])
            np.maximum.at(maxima, (first + owners[r], owners_right[c]), products)
        first = last
    return maxima
