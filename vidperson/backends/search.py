"""Ranked lists without a list of pairs: the best segments of each model, and the best models of each segment.

Scores are made for some tracks at a time and all models, and only what may still be among the best is kept. Of equal
scores the name that comes first in the C locale is the better one, so the ranks do not depend on blocks and order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidperson.backends.identification import Searcher
from vidperson.backends.sets import EmbeddingSets

Float = NDArray[np.float32]
Index = NDArray[np.int64]
Lines = tuple[Index, Index, Float]
"""Row, column and score of lines of ranked lists."""

ROWS_AT_ONCE = 2112  # tracks; with 10,000 models their scores take 85 MB
_KEPT_AT_ONCE = 1 << 21  # candidates that wait before the best of each model are picked
_CHUNK = 64


@dataclass(frozen=True)
class Ranks:
    """Ranked lists, best first, as numbers: a line is (row[i], column[i], score[i]).

    rows: what is ranked for, ascending: models, or segments. columns: the segments, or models, that are ranked.
    ranks: (N,) from 1. scores: (N,) float32.
    """

    rows: Index
    columns: Index
    ranks: Index
    scores: Float


def search(
    searcher: Searcher,
    tracks: EmbeddingSets,
    groups: Mapping[str, tuple[Index, Index]],
    top: int,
    persons: int,
    rows_at_once: int = ROWS_AT_ONCE,
) -> tuple[Ranks, Ranks]:
    """The best segments of each model and the best models of each segment.

    tracks: the vectors of the tracks of each segment, the segments in C-locale order.
    groups: name -> (models, segments) int64 positions in ``searcher.models`` and ``tracks.keys``: each of the
        models is looked for in each of the segments. A segment is in one group, a model may be in several.
    top, persons: most segments of a model, most models of a segment.
    rows_at_once: tracks per block; changes nothing but memory and speed. Memory: about 10 bytes a model and track.
    """
    best = _Best(len(searcher.models), top)
    of_segments: list[Lines] = []
    for columns, segments in groups.values():
        columns = np.sort(columns)
        everyone = np.array_equal(columns, np.arange(len(searcher.models)))
        for some, scores in _blocks(searcher, tracks, np.sort(segments), rows_at_once):
            scores = scores if everyone else scores[:, columns]
            best.add(scores, some, columns)
            row, column = _candidates(scores, _floors(scores, persons, 1)[:, None], persons, 1)
            row, column, score = _first(row, column, scores[row, column], persons)
            of_segments.append((some[row], columns[column], score))
    return _ranks(best.lines()), _ranks(_joined(of_segments))


def _blocks(
    searcher: Searcher, tracks: EmbeddingSets, segments: Index, rows_at_once: int
) -> Iterator[tuple[Index, Float]]:
    """Some segments that have tracks, and their (S, P) float32 scores, the largest of their tracks."""
    counts = np.diff(tracks.offsets)
    segments = segments[counts[segments] > 0]
    ends = np.cumsum(counts[segments])
    begin = 0
    while begin < len(segments):
        before = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + rows_at_once, side="right")))
        some = segments[begin:end]
        begin = end
        if counts[some[0]] > rows_at_once:  # a segment of its own, in parts
            first, last = tracks.offsets[some[0]], tracks.offsets[some[0] + 1]
            parts = (tracks.embeddings[i : min(i + rows_at_once, last)] for i in range(first, last, rows_at_once))
            yield some, np.maximum.reduce([searcher.scores(part).max(axis=0, keepdims=True) for part in parts])
            continue
        lengths = counts[some]
        starts = np.cumsum(lengths) - lengths
        rows = np.arange(lengths.sum()) + np.repeat(tracks.offsets[some] - starts, lengths)
        scores = searcher.scores(tracks.embeddings[rows])
        yield some, scores if len(rows) == len(some) else np.maximum.reduceat(scores, starts, axis=0)


def _floors(scores: Float, count: int, axis: int) -> Float:
    """A score for each line along the axis that at least ``count`` of its scores reach; -inf where it has fewer.

    The least of the best ``count`` of the maxima of chunks: about as many reach it, and it is cheap.
    """
    length = scores.shape[axis]
    if length <= count:
        return np.full(scores.shape[1 - axis], -np.inf, dtype=np.float32)
    size = max(1, min(_CHUNK, length // (2 * count)))
    maxima = np.maximum.reduceat(scores, np.arange(0, length, size), axis=axis)
    return np.asarray(np.partition(maxima, -count, axis=axis).take(-count, axis=axis))


def _candidates(scores: Float, floors: Float, count: int, axis: int) -> tuple[Index, Index]:
    """Row and column of the scores that reach their floor; of those that equal it, ``count`` per line do."""
    reached = scores >= floors
    if np.count_nonzero(reached) > 8 * count * scores.shape[1 - axis]:  # many are the same
        ties = scores == floors
        reached &= ~ties | (np.cumsum(ties, axis=axis, dtype=np.int32) <= count)
    row, column = np.divmod(np.flatnonzero(reached), scores.shape[1])
    return row, column


def _first(row: Index, column: Index, score: Float, count: int) -> Lines:
    """The lines of the ``count`` best of each row, by row, the best first, of equal ones the lowest column."""
    keys = (row.astype(np.uint64) << np.uint64(32)) | _descending(score)
    order = np.argsort(keys)
    ordered = keys[order]
    same = ordered[1:] == ordered[:-1]
    ties = np.flatnonzero(np.append(same, False) | np.append(False, same))
    order[ties] = order[ties][np.lexsort((column[order[ties]], ordered[ties]))]
    row = row[order]
    kept = np.arange(len(row)) - np.searchsorted(row, row) < count
    order = order[kept]
    return row[kept], column[order], score[order]


def _descending(scores: Float) -> NDArray[np.uint64]:
    """Numbers below 2^32 that fall as the scores rise; 0.0 and -0.0 are the same."""
    bits = (scores + np.float32(0)).view(np.uint32)
    return np.where(bits >> 31, bits, ~bits & np.uint32(0x7FFFFFFF)).astype(np.uint64)


class _Best:
    """The best segments of each model so far."""

    def __init__(self, models: int, top: int) -> None:
        self._top = top
        self._floors = np.full(models, -np.inf, dtype=np.float32)  # what a score has to reach to be among them
        self._parts: list[Lines] = []
        self._waiting = 0

    def add(self, scores: Float, segments: Index, models: Index) -> None:
        """(S, P) scores of these segments, ascending, and models."""
        floors = self._floors[models]
        if np.isneginf(floors).any():
            floors = self._floors[models] = np.maximum(floors, _floors(scores, self._top, 0))
        row, column = _candidates(scores, floors, self._top, 0)
        self._parts.append((models[column], segments[row], scores[row, column]))
        self._waiting += len(row)
        if self._waiting > _KEPT_AT_ONCE + len(self._floors) * self._top:
            self._pick()

    def lines(self) -> Lines:
        """Model, segment and score, by model, the best first."""
        self._pick()
        return self._parts[0]

    def _pick(self) -> None:
        model, segment, score = _first(*_concatenated(self._parts), self._top)
        self._parts, self._waiting = [(model, segment, score)], len(model)
        ends = np.searchsorted(model, np.arange(len(self._floors)), side="right")
        full = np.flatnonzero(np.diff(ends, prepend=0) == self._top)
        self._floors[full] = score[ends[full] - 1]


def _concatenated(parts: Sequence[Lines]) -> Lines:
    none = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
    rows, columns, scores = zip(none, *parts, strict=True)
    return np.concatenate(rows), np.concatenate(columns), np.concatenate(scores)


def _joined(parts: Sequence[Lines]) -> Lines:
    """All lines by row; those of a row stand in the same part and stay in order."""
    rows, columns, scores = _concatenated(parts)
    order = np.argsort(rows, kind="stable")
    return rows[order], columns[order], scores[order]


def _ranks(lines: Lines) -> Ranks:
    rows, columns, scores = lines
    return Ranks(rows, columns, np.arange(len(rows)) - np.searchsorted(rows, rows) + 1, scores)
