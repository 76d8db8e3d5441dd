"""Sums that come out the same to the last bit in whatever order they are added.

A matrix product adds in an order that depends on the sizes of the matrices, and float64 rounds each partial sum.
Numbers that are multiples of 2^-k, however, are added without rounding as long as every partial sum stays below
2^(53 - k). So numbers are rounded to such a grid first, by less than float32 rounds them, and blocks of any size,
faces in any order and trials in any order give the same scores.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Double = NDArray[np.float64]

UNIT_BITS = 26
"""Grid of two factors of at most length 1: the products are multiples of 2^-52, their sums stay below 2."""


def round_to_grid(values: NDArray[np.floating], bits: int) -> Double:
    """The nearest multiples of 2^-bits, float64."""
    rounded = np.multiply(values, math.ldexp(1.0, bits), dtype=np.float64)
    np.rint(rounded, out=rounded)
    rounded *= math.ldexp(1.0, -bits)
    return rounded


def bits_for_sum(terms: int) -> int:
    """The finest grid on which ``terms`` numbers of at most 1 are summed without error."""
    return 52 - math.ceil(math.log2(max(terms, 1)))


def length_normalise(embeddings: NDArray[np.floating]) -> Double:
    """(N, dim) embeddings to (N, dim) float64 ones of length 1 on the grid 2^-26; a zero vector stays zero.

    Inner products of two such rows are exact.
    """
    return with_lengths(embeddings)[0]


def with_lengths(embeddings: NDArray[np.floating]) -> tuple[Double, Double]:
    """:func:`length_normalise`, and the (N,) float64 lengths that there were."""
    rows = np.array(embeddings, dtype=np.float64)
    norms = np.sqrt(np.square(rows).sum(axis=1, keepdims=True))
    rows *= 2.0**UNIT_BITS / np.where(norms > 0, norms, 1.0)
    np.rint(rows, out=rows)
    rows *= 2.0**-UNIT_BITS
    return rows, norms[:, 0]


def scaled(rows: NDArray[np.floating], bits: int) -> tuple[Double, float]:
    """(N, dim) rows as numbers of at most 1 on the grid 2^-bits, and the power of two that they were divided by."""
    _, exponent = math.frexp(float(np.abs(rows).max(initial=0.0)))
    scale = math.ldexp(1.0, exponent)
    return round_to_grid(np.asarray(rows, dtype=np.float64) / scale, bits), scale


def mean_row(rows: NDArray[np.floating]) -> Double:
    """(N, dim) rows, N > 0, to their (1, dim) mean, the same in any order of the rows."""
    numbers, scale = scaled(rows, bits_for_sum(len(rows)))
    return numbers.sum(axis=0, keepdims=True) / len(rows) * scale


def shares(weights: Double) -> Double:
    """(M, N) weights in 0..1, some above 0 in each row, to shares of their row's sum, on the grid 2^-26."""
    weights = round_to_grid(weights, bits_for_sum(weights.shape[1]))
    weights /= weights.sum(axis=1, keepdims=True)
    return round_to_grid(weights, UNIT_BITS)


def weighted_means(share: Double, rows: NDArray[np.floating]) -> Double:
    """(M, N) shares (see ``shares``) of (N, dim) rows to the (M, dim) means that they weigh."""
    numbers, scale = scaled(rows, UNIT_BITS)
    return (share @ numbers) * scale
