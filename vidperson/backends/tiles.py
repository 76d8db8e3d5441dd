"""Inner products in float32 whose bits depend on their two vectors alone: not on block, place, order or machine.

The product of two vectors is the sum of its 256-long parts, each a chain of fused multiply-adds in order,
s <- fl32(a * b + s), parts 1 and 2 of every 512 numbers added first. That is what BLAS libraries compute on processors
with such an instruction, except at the edges of a matrix. So matrices are cut into tiles of a few fixed shapes, and
what a library may treat as an edge is left out. Whether it holds here is checked once, place by place.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vidperson.backends.sets import Block, Index

Float = NDArray[np.float32]

_PAIRS_PER_PACK = 8000  # as many products take as long as gathering the rows of a tile
_PART = 256  # no BLAS library cuts a chain of so many numbers; one of 512 all cut in half


@dataclass(frozen=True)
class Tiling:
    """Shapes of tiles, the largest first.

    heights, widths: rows and columns that count. guard: further columns on either side, which do not.
    """

    heights: tuple[int, ...]
    widths: tuple[int, ...]
    guard: int

    def rows(self, count: int) -> int:
        """Rows of the tiles that cover ``count`` rows."""
        return sum(height for _, height in _cover(count, self.heights))

    def columns(self, count: int) -> int:
        """Columns that a right side of ``count`` columns has; the guard is a part of them."""
        return sum(width for _, width in _cover(count, self.widths)) + 2 * self.guard


_TILINGS = (
    Tiling((528, 144, 48), (1024, 256, 48), 0),
    # OpenBLAS for AVX2 treats 8 columns on either side of up to 320 in another way, and rows behind the last dozen.
    Tiling((528, 144, 48), (304, 48), 8),
)


@lru_cache
def tiling(dim: int) -> Tiling | None:
    """The tiles in which products of (dim,) vectors are as told above; None where this machine has none."""
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal((count, dim), dtype=np.float32) for count in (7, 5))
    expected = chains(left, right)
    return next((shapes for shapes in _TILINGS if _holds(shapes, left, right, expected)), None)


def _holds(shapes: Tiling, left: Float, right: Float, expected: Float) -> bool:
    """Whether each place of each tile gives the product as it is to be."""
    for height in shapes.heights:
        for width in shapes.widths:
            rows, columns = np.arange(height) % len(left), np.arange(width + 2 * shapes.guard) % len(right)
            found = _multiply(left[rows], np.ascontiguousarray(right[columns].T), *_scratch(height, len(columns)))
            inside = slice(shapes.guard, shapes.guard + width)
            if found[:, inside].tobytes() != expected[np.ix_(rows, columns[inside])].tobytes():
                return False
    return True


def chains(left: Float, right: Float) -> Float:
    """(A, dim) and (B, dim) to their (A, B) products by the definition above: slow."""
    dim = left.shape[1]
    count = -(-dim // _PART) or 1
    # Zeros behind the last number change no sum.
    a, b = (np.zeros((len(side), count * _PART), dtype=np.float32) for side in (left, right))
    a[:, :dim], b[:, :dim] = left, right
    parts = np.zeros((count, len(left), len(right)), dtype=np.float32)
    a, b = a.reshape(len(left), count, _PART), b.reshape(len(right), count, _PART)
    for k in range(min(dim, _PART)):
        parts = _fused(a[:, :, k].T[:, :, None], b[:, :, k].T[:, None, :], parts)
    total = np.zeros_like(parts[0])
    for begin, end in _pieces(dim):
        total = total + parts[begin // _PART : -(-end // _PART)].sum(axis=0)  # of two: no order to choose
    return total


def _fused(a: Float, b: Float, c: Float) -> Float:
    """fl32(a * b + c): the product is exact in float64, and its sum rounded to odd, so that rounding again is right."""
    product = a.astype(np.float64) * b
    total = product + c
    other = total - product
    error = (product - (total - other)) + (c - other)
    odd = total.view(np.int64)
    odd += ((error != 0) & (odd & 1 == 0)) * np.where((error > 0) == (total > 0), 1, -1)
    return total.astype(np.float32)


def _pieces(dim: int) -> Iterator[tuple[int, int]]:
    """Begin and end of what one matrix product sums."""
    begin = 0
    while begin == 0 or begin < dim:
        length = 2 * _PART if dim - begin >= 2 * _PART else min(_PART, dim - begin)
        yield begin, begin + length
        begin += max(length, 1)


def _cover(count: int, sizes: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Begin and size of the tiles that cover ``count`` rows: large ones, then what wastes least."""
    begin = 0
    while begin < count:
        rest = count - begin
        size = next((size for size in sizes if size <= rest or size <= -(-rest // sizes[-1]) * sizes[-1]), sizes[-1])
        yield begin, size
        begin += size


def _scratch(height: int, width: int) -> tuple[Float, Float]:
    return np.empty((height, width), dtype=np.float32), np.empty((height, width), dtype=np.float32)


def _multiply(left: Float, right: Float, out: Float, more: Float) -> Float:
    """(A, dim) times (dim, B), the shape of a tile, into ``out``."""
    for begin, end in _pieces(len(right)):
        np.matmul(left[:, begin:end], right[begin:end], out=more if begin else out)
        if begin:
            out += more
    return out


def maxima(
    shapes: Tiling, left: Float, starts: Index, rows: int, right: Float, right_starts: Index, columns: int
) -> Float:
    """(M, V) largest products of the rows of M sets and the columns of V sets, which begin at the (M,) and (V,) starts.

    left: (shapes.rows(rows), dim). right: (dim, shapes.columns(columns)), the first of ``columns`` behind the guard.
    What stands behind the last row and around the columns does not matter, but is finite.
    """
    found = np.empty((len(starts), len(right_starts)), dtype=np.float32)
    ends = np.append(starts[1:], rows)
    across = list(_cover(columns, shapes.widths))
    strip = np.empty((min(rows, shapes.heights[0]), columns), dtype=np.float32)
    scratch: dict[tuple[int, int], tuple[Float, Float]] = {}
    for top, height in _cover(rows, shapes.heights):
        bottom = min(top + height, rows)
        first, last = int(np.searchsorted(ends, top, side="right")), int(np.searchsorted(starts, bottom))
        edges = [0, *(starts[first + 1 : last] - top).tolist(), bottom - top]
        goes_on = starts[first] < top  # the first set has rows in the tiles above
        plain = len(right_starts) == columns and not goes_on
        best = found[first:last] if plain else strip[: last - first]
        for begin, width in across:
            size = height, width + 2 * shapes.guard
            if size not in scratch:
                scratch[size] = _scratch(*size)
            tile = _multiply(left[top : top + height], right[:, begin : begin + size[1]], *scratch[size])
            used = slice(begin, min(begin + width, columns))
            inner = tile[: bottom - top, shapes.guard : shapes.guard + used.stop - begin]
            if last - first == len(inner):
                best[:, used] = inner
            else:
                for i, (low, high) in enumerate(itertools.pairwise(edges)):
                    np.maximum.reduce(inner[low:high], axis=0, out=best[i, used])
        if plain:
            continue
        if len(right_starts) < columns:
            best = np.maximum.reduceat(best, right_starts, axis=1)
        if goes_on:
            np.maximum(best[0], found[first], out=best[0])
        found[first:last] = best
    return found


def every_maximum(shapes: Tiling, left: Float, lefts: Block, right: Float, rights: Block) -> Float:
    """:func:`maxima` of the sets of two blocks."""
    return maxima(shapes, left, lefts.starts, len(lefts.rows), right, rights.starts, len(rights.rows))


def each_cost(shapes: Tiling, rows: float, columns: float) -> float:
    """As many products of :func:`maxima` take as long as :func:`each_maximum` of pairs with so many rows, columns."""
    packs = max(rows / shapes.heights[0], columns / shapes.widths[-1], 1)
    return packs * _PAIRS_PER_PACK + rows * shapes.widths[-1]


def each_maximum(
    shapes: Tiling, left: Float, lefts: Block, right: Float, rights: Block, row: Index, column: Index
) -> Float:
    """(T,) largest products of the rows of T pairs of sets, ``lefts.sets[row]`` with ``rights.sets[column]``.

    left, right: as for :func:`maxima`, of the rows of the blocks. Pairs in a row with the same right set are fastest.
    """
    heights, widths = lefts.lengths[row], rights.lengths[column]
    new = np.diff(column, prepend=-1) != 0  # pairs with the same set on the right share its columns
    high, wide = np.cumsum(heights), np.cumsum(widths * new)
    best = np.empty(len(row), dtype=np.float32)
    begin = 0
    while begin < len(row):
        # As many pairs as a tile holds, or one that needs more.
        most_high = high[begin] - heights[begin] + shapes.heights[0]
        most_wide = wide[begin] - widths[begin] + shapes.widths[-1]
        end = min(np.searchsorted(high, most_high, "right"), np.searchsorted(wide, most_wide, "right"))
        end = max(int(end), begin + 1)
        firsts = begin + np.flatnonzero(np.append(True, new[begin + 1 : end]))
        own, others = row[begin:end], column[firsts]
        rows, columns = _members(lefts, own), _members(rights, others)
        some_left = np.zeros((shapes.rows(len(rows)), left.shape[1]), dtype=np.float32)
        some_left[: len(rows)] = left[rows]
        some_right = np.zeros((len(right), shapes.columns(len(columns))), dtype=np.float32)
        some_right[:, shapes.guard : shapes.guard + len(columns)] = right[:, shapes.guard + columns]
        starts, right_starts = (np.cumsum(lengths) - lengths for lengths in (heights[begin:end], widths[firsts]))
        found = maxima(shapes, some_left, starts, len(rows), some_right, right_starts, len(columns))
        best[begin:end] = found[np.arange(end - begin), np.cumsum(new[begin:end]) - (1 if new[begin] else 0)]
        begin = end
    return best


def _members(block: Block, sets: Index) -> Index:
    """The rows within a block of some of its sets, one set behind the other."""
    lengths = block.lengths[sets]
    return np.arange(lengths.sum()) + np.repeat(block.starts[sets] - np.cumsum(lengths) + lengths, lengths)
