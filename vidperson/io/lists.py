"""Kaldi text lists: scp, utt2spk, spk2utt, trials, scores, labelled boxes, statuses.

Every reader refuses what it cannot read with the file and line; keys are unique; order is that of the file.
"""

from __future__ import annotations

import itertools
import math
import operator
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import IO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vidperson.errors import DataError, ScoringError
from vidperson.io.atomic import atomic_write
from vidperson.io.columns import Block, IdCollector, Ids, read_blocks
from vidperson.io.lines import PathLike, read_lines

_WRITTEN_AT_ONCE = 1 << 16
_LARGEST_SCORE = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Pairs:
    """The model and the segment of each line, as numbers: millions of lines need no Python object each.

    path: the file that they were read from.
    model_ids, segment_ids: the different ids, in order of first appearance.
    model_index, segment_index: (N,) int32 positions in them.
    """

    path: PathLike
    model_ids: list[str]
    segment_ids: list[str]
    model_index: NDArray[np.int32]
    segment_index: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.model_index)

    @cached_property
    def models(self) -> list[str]:
        """The model of each line."""
        return [self.model_ids[i] for i in self.model_index.tolist()]

    @cached_property
    def segments(self) -> list[str]:
        """The segment of each line."""
        return [self.segment_ids[i] for i in self.segment_index.tolist()]

    def name(self, row: int) -> str:
        """``<model> <segment>`` of a line."""
        return f"{self.model_ids[self.model_index[row]]} {self.segment_ids[self.segment_index[row]]}"

    def where(self, row: int) -> str:
        """``<file>:<line>`` of a line, for messages; blank lines count."""
        return f"{os.fspath(self.path)}:{line_number(self.path, row)}"

    def keys(self, model_ids: list[str], segment_ids: list[str]) -> NDArray[np.int64]:
        """(N,) int64, different for different pairs of the ids given; -1 where a line has another id."""
        keys = _translation(self.model_ids, model_ids)[self.model_index]
        segments = _translation(self.segment_ids, segment_ids)[self.segment_index]
        unknown = (keys < 0) | (segments < 0)
        keys *= len(segment_ids)
        keys += segments
        keys[unknown] = -1
        return keys


def line_number(path: PathLike, row: int) -> int:
    """1-based number of the line that is the ``row``-th, from 0 on, of those that are not blank."""
    return next(number for i, (number, _) in enumerate(read_lines(path)) if i == row)


def _translation(names: list[str], ids: list[str]) -> NDArray[np.int64]:
    """(len(names),) int64: where each name is in ``ids``; -1 for those that are not."""
    places = {name: i for i, name in enumerate(ids)}
    return np.array([places.get(name, -1) for name in names], dtype=np.int64)


@dataclass(frozen=True)
class Trials(Pairs):
    """Pairs to score. ``targets``: (N,) bool, None where the list has no key."""

    targets: NDArray[np.bool_] | None

    @cached_property
    def is_target(self) -> list[bool] | None:
        """``targets`` as a list."""
        return None if self.targets is None else self.targets.tolist()

    def key(self) -> NDArray[np.bool_]:
        """``targets``. Raises ScoringError where there is no key, or one that knows a single kind of trial."""
        if self.targets is None:
            raise ScoringError(f"{os.fspath(self.path)} has no key: expected a third column target|nontarget")
        found = int(np.count_nonzero(self.targets)), int(np.count_nonzero(~self.targets))
        if not all(found):
            raise ScoringError(
                f"{os.fspath(self.path)}: expected target and nontarget trials, found {found[0]} and {found[1]}"
            )
        return self.targets


@dataclass(frozen=True)
class Scores(Pairs):
    """Scored pairs. ``values``: (N,) float64, finite."""

    values: NDArray[np.float64]

    def __getitem__(self, pair: tuple[str, str]) -> float:
        """The score of a model and a segment. Raises KeyError for a pair that is not there."""
        return self.table[pair]

    @cached_property
    def table(self) -> dict[tuple[str, str], float]:
        """(model, segment) -> score: handy for short lists."""
        return dict(zip(zip(self.models, self.segments, strict=True), self.values.tolist(), strict=True))


def read_trials(path: PathLike) -> Trials:
    """``<model> <segment> [target|nontarget]``; either every line has the key or none has.

    Raises DataError naming the line for other column counts, other labels, a pair given twice, Windows line ends,
    control characters, ids that are not UTF-8, or an empty list.
    """
    models, segments = IdCollector("model"), IdCollector("segment")
    targets: list[NDArray[np.bool_]] = []
    for block, is_target in trial_blocks(path):
        models.add(block, 0)
        segments.add(block, 1)
        targets += [] if is_target is None else [is_target]
    pairs = _pairs(models, segments, path, "trial")
    if not len(pairs[-1]):
        raise DataError("no trials", path)
    return Trials(*pairs, np.concatenate(targets) if targets else None)


def trial_blocks(path: PathLike) -> Iterator[tuple[Block, NDArray[np.bool_] | None]]:
    """The blocks of a trial list, and which of their lines are targets, (L,) bool; None where there is no key.

    Raises DataError as :func:`read_trials`, but for pairs given twice, ids and empty lists.
    """
    columns = 0
    for block in read_blocks(path):
        columns = columns or block.fields_of_first
        block.arrange(3 if columns == 3 else 2, "<model> <segment>" + (" target|nontarget" if columns == 3 else ""))
        targets = block.equal(2, b"target") if columns == 3 else None
        if targets is not None:
            wrong = np.flatnonzero(~targets & ~block.equal(2, b"nontarget"))
            if len(wrong):
                found = block.texts(2, wrong[:1])[0].decode("utf-8", "backslashreplace")
                line = block.line_of(int(wrong[0]))
                raise DataError(f"expected 'target' or 'nontarget', found '{found}'", path, line)
        yield block, targets


def read_scores(path: PathLike) -> Scores:
    """``<model> <segment> <score>``.

    Raises DataError naming the line for a malformed line, a score that is not finite or that float32 cannot hold, a
    pair given twice, Windows line ends, control characters, ids that are not UTF-8, or an empty list.
    """
    expected = "<model> <segment> <finite score>"
    models, segments = IdCollector("model"), IdCollector("segment")
    values = []
    for block in read_blocks(path):
        block.arrange(3, expected)
        models.add(block, 0)
        segments.add(block, 1)
        values.append(block.numbers(2))
        broken = ~(np.abs(values[-1]) <= _LARGEST_SCORE)
        if broken.any():
            row = int(np.argmax(broken))
            raise DataError(f"expected '{expected}', found '{block.line(row)}'", path, block.line_of(row))
    pairs = _pairs(models, segments, path, "score of")
    if not len(pairs[-1]):
        raise DataError("no scores", path)
    return Scores(*pairs, np.concatenate(values))


def read_partitions(path: PathLike) -> tuple[Pairs, Ids]:
    """``<model> <segment> <partition>``: which part of the evaluation each trial belongs to.

    Raises DataError as :func:`read_scores` does.
    """
    models, segments, labels = IdCollector("model"), IdCollector("segment"), IdCollector("partition")
    for block in read_blocks(path):
        block.arrange(3, "<model> <segment> <partition>")
        for column, collector in enumerate((models, segments, labels)):
            collector.add(block, column)
    pairs = _pairs(models, segments, path, "partition of")
    if not len(pairs[-1]):
        raise DataError("no partitions", path)
    return Pairs(*pairs), labels.ids()


PairColumns = tuple[PathLike, list[str], list[str], NDArray[np.int32], NDArray[np.int32]]


def _pairs(models: IdCollector, segments: IdCollector, path: PathLike, what: str) -> PairColumns:
    """Raises DataError for a pair that is there twice."""
    model: Ids = models.ids()
    segment: Ids = segments.ids()
    keys = model.index.astype(np.int64) * len(segment.names) + segment.index
    ascending = bool((keys[1:] > keys[:-1]).all())  # as lists that are sorted by model and segment often are
    ordered = keys if ascending else np.sort(keys)
    if (ordered[1:] == ordered[:-1]).any():
        order = np.argsort(keys, kind="stable")
        row = int(order[1:][keys[order[1:]] == keys[order[:-1]]].min())
        name = f"{model.names[model.index[row]]} {segment.names[segment.index[row]]}"
        raise DataError(f"{what} '{name}' appears twice", path, line_number(path, row))
    return path, model.names, segment.names, model.index, segment.index


def read_key(path: PathLike) -> tuple[Trials, NDArray[np.bool_]]:
    """A trial list and which of its trials are targets, (N,) bool.

    Raises ScoringError as :meth:`Trials.key`, DataError as :func:`read_trials`.
    """
    trials = read_trials(path)
    return trials, trials.key()


def read_scores_of(path: PathLike, pairs: Pairs) -> NDArray[np.float64]:
    """(N,) float64 scores of exactly the N pairs of another list, in its order.

    Raises ScoringError as :func:`rows_in_order`, DataError as :func:`read_scores`.
    """
    scores = read_scores(path)
    return scores.values[rows_in_order(scores, pairs)]


def rows_in_order(listed: Pairs, wanted: Pairs) -> NDArray[np.int64]:
    """(N,) int64: the row of ``listed`` that holds each pair of ``wanted``, which are the same pairs in any order.

    Raises ScoringError with the file and line of the first pair that one of them lacks.
    """
    ids = wanted.model_ids, wanted.segment_ids
    have, want = listed.keys(*ids), wanted.keys(*ids)
    if len(have) == len(want) and np.array_equal(have, want):
        return np.arange(len(want))
    have_order, want_order = np.argsort(have), np.argsort(want)
    if len(have) == len(want) and np.array_equal(have[have_order], want[want_order]):
        rows = np.empty(len(want), dtype=np.int64)
        rows[want_order] = have_order
        return rows
    missing = np.flatnonzero(~np.isin(want, have))
    if len(missing):
        raise _lacking(wanted, missing, listed)
    raise _lacking(listed, np.flatnonzero(~np.isin(have, want)), wanted)


def _lacking(pairs: Pairs, rows: NDArray[np.int64], other: Pairs) -> ScoringError:
    names = ", ".join(pairs.name(row) for row in rows[:3].tolist()) + (", ..." if len(rows) > 3 else "")
    return ScoringError(
        f"{pairs.where(int(rows[0]))}: {len(rows)} of {len(pairs)} pairs, this one first, are not in "
        f"{os.fspath(other.path)}: {names}"
    )


@dataclass(frozen=True)
class LabelledBox:
    """Where the person to enrol is: at ``position`` (frame number or seconds), x1 y1 x2 y2 in pixels."""

    position: float
    box: tuple[float, float, float, float]


def read_boxes(path: PathLike) -> dict[str, list[LabelledBox]]:
    """``<what>_boundingbox`` to segment -> labels, in order of position."""
    table: dict[str, list[LabelledBox]] = {}
    for number, line in read_lines(path):
        fields = line.split()
        if len(fields) != 6:
            raise DataError(
                f"expected '<segment> <frame or seconds> <x1> <y1> <x2> <y2>', found '{line}'", path, number
            )
        try:
            position, x1, y1, x2, y2 = (float(f) for f in fields[1:])
        except ValueError:
            raise DataError(f"expected five numbers after the segment, found '{line}'", path, number) from None
        if not all(map(math.isfinite, (position, x1, y1, x2, y2))) or position < 0 or x2 <= x1 or y2 <= y1:
            raise DataError(f"expected position >= 0, x1 < x2 and y1 < y2, found '{line}'", path, number)
        table.setdefault(fields[0], []).append(LabelledBox(position, (x1, y1, x2, y2)))
    return {segment: sorted(labels, key=lambda label: label.position) for segment, labels in table.items()}


def read_regions(path: PathLike) -> dict[str, tuple[float, float, float, float]]:
    """``region`` to segment -> x1 y1 x2 y2, in pixels of the upright picture; it may reach out of the frame."""
    table: dict[str, tuple[float, float, float, float]] = {}
    for number, line in read_lines(path):
        segment, *fields = line.split()
        try:
            x1, y1, x2, y2 = (float(field) for field in fields)
        except ValueError:
            raise DataError(f"expected '<segment> <x1> <y1> <x2> <y2>', found '{line}'", path, number) from None
        if not all(map(math.isfinite, (x1, y1, x2, y2))) or x2 <= x1 or y2 <= y1:
            raise DataError(f"expected x1 < x2 and y1 < y2, found '{line}'", path, number)
        if segment in table:
            raise DataError(f"'{segment}' appears twice", path, number)
        table[segment] = (x1, y1, x2, y2)
    return table


def as_scores(values: ArrayLike, pairs: Pairs) -> NDArray[np.float32]:
    """(N,) values of the N pairs, rounded to float32 as a score file holds them.

    Raises ScoringError naming the first pair whose value is not finite then.
    """
    with np.errstate(over="ignore"):
        scores = np.asarray(values, dtype=np.float32)
    broken = np.flatnonzero(~np.isfinite(scores))
    if len(broken):
        first = int(broken[0])
        raise ScoringError(
            f"{pairs.where(first)}: {len(broken)} of {len(scores)} scores would be NaN or infinite, first that of "
            f"'{pairs.name(first)}'"
        )
    return scores


def write_scores(path: PathLike, pairs: Pairs, values: ArrayLike) -> None:
    """``<model> <segment> <score>``, whole or not at all; (N,) values as :func:`as_scores` makes them, written in full.

    Raises ScoringError as :func:`as_scores`.
    """
    scores = as_scores(values, pairs)
    with atomic_write(path, "wb") as stream:
        ScoreLines(stream, pairs.model_ids, pairs.segment_ids).write(pairs.model_index, pairs.segment_index, scores)


class ScoreLines:
    """Writes scores, some at a time."""

    def __init__(self, stream: IO[bytes], model_ids: list[str], segment_ids: list[str]) -> None:
        self._stream = stream
        self._models = [f"{name} ".encode() for name in model_ids]
        self._segments = [f"{name} ".encode() for name in segment_ids]

    def write(
        self, model_index: NDArray[np.int32], segment_index: NDArray[np.int32], scores: NDArray[np.float32]
    ) -> None:
        """(N,) positions of the ids, (N,) finite float32 scores."""
        for begin in range(0, len(scores), _WRITTEN_AT_ONCE):
            some = slice(begin, begin + _WRITTEN_AT_ONCE)
            segments = map(self._segments.__getitem__, segment_index[some].tolist())
            lines = list(map(operator.add, segments, score_texts(scores[some])))
            # Lines of one model in a row are joined at once.
            models = model_index[some]
            heads = np.flatnonzero(np.append(True, models[1:] != models[:-1])).tolist()
            if 3 * len(heads) > len(lines):
                self._stream.write(b"\n".join(map(operator.add, map(self._models.__getitem__, models.tolist()), lines)))
                self._stream.write(b"\n")
                continue
            for head, end in itertools.pairwise([*heads, len(lines)]):
                model = self._models[models[head]]
                self._stream.write(b"%b%b\n" % (model, (b"\n" + model).join(lines[head:end])))


def score_texts(scores: NDArray[np.float32]) -> list[bytes]:
    """The fewest digits that give each of (N,) finite float32 scores again, as str() writes them."""
    import orjson  # here, since only scores need it

    if not len(scores):
        return []
    texts = orjson.dumps(np.ascontiguousarray(scores), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
    sizes = np.abs(scores)
    # With exponents orjson writes 1e-5 where str() writes 1e-05, and it has other bounds for them.
    for row in np.flatnonzero(((sizes <= 1e-4) & (sizes > 0)) | (sizes >= 1e6)).tolist():
        texts[row] = str(scores[row]).encode()
    return texts
