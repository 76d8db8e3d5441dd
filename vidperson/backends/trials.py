"""Scores of trials: the maximum over all pairs of a row of the model and a row of the video, whatever compares them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vidperson.backends.scorers import Cosine, Scorer, TiledCosine
from vidperson.backends.sets import Block, Index, row_blocks
from vidperson.backends.tiles import tiling
from vidperson.errors import ScoringError

_TABLE_SCORES = 2**24  # of some models with all videos
_TRIALS_AT_ONCE = 2**16
_TRIALS_PER_CALL = 2**20
_BASE_BYTES = 2**28
_TRIAL_BYTES = 50  # the list, the order of its models, its places in the table and the scores


def score_pairs(
    scorer: Scorer,
    trials: NDArray[np.integer],
    mem_gb: float = 4.0,
    block_rows: tuple[int, int] | None = None,
    others_bytes: int = 0,
) -> NDArray[np.float32]:
    """Score each trial by the largest score of a row of the model and a row of the video.

    trials: (T, 2) positions of a model's and of a video's set; those of a model in a row are the fastest.
    mem_gb: memory, in GiB, of the process; how many rows are compared at a time follows from it.
    block_rows: how many rows of the enrolment and the test side are compared at a time instead. Neither changes a
        score.
    others_bytes: embeddings that the process holds beside those of the scorer.
    Returns (T,) float32 scores in the order of the trials. A trial with a side without rows scores 0.

    Raises ScoringError when mem_gb is too little.
    """
    trials = np.asarray(trials).reshape(-1, 2)
    if not np.issubdtype(trials.dtype, np.integer):
        trials = trials.astype(np.int64)
    scorer = fastest(scorer)
    scores = np.zeros(len(trials), dtype=np.float32)
    counts = np.diff(scorer.enrolment_offsets), np.diff(scorer.test_offsets)
    order = None
    if not counts[0].all() or not counts[1].all():
        order = np.flatnonzero((counts[0][trials[:, 0]] > 0) & (counts[1][trials[:, 1]] > 0))
    enrolled = trials[:, 0] if order is None else trials[order, 0]
    if (enrolled[1:] < enrolled[:-1]).any():
        ascending = np.argsort(enrolled, kind="stable")
        order, enrolled = ascending if order is None else order[ascending], enrolled[ascending]
    blocks = block_rows or rows_in_memory(scorer, mem_gb, len(trials), others_bytes)
    for models, mine in _groups(enrolled, order, counts[0], blocks[0], _TABLE_SCORES // max(1, len(counts[1]))):
        where = np.zeros(len(counts[1]), dtype=bool)
        for some in _parts(mine):
            where[trials[some, 1]] = True
        videos = np.flatnonzero(where)
        rows, columns = (np.zeros(len(count), dtype=np.int64) for count in counts)
        rows[models], columns[videos] = np.arange(len(models)), np.arange(len(videos))
        number = mine.stop - mine.start if isinstance(mine, slice) else len(mine)
        if _are_few(scorer, number, counts[0][models], counts[1][videos]):
            pairs = rows[trials[mine, 0]], columns[trials[mine, 1]]
            scores[mine] = _each(scorer, models, videos, *pairs, blocks)
            continue
        table = _table(scorer, models, videos, blocks).ravel()
        if isinstance(mine, slice) and _is_grid(trials[mine], models, videos):
            scores[mine] = table
            continue
        rows *= len(videos)
        for some in _parts(mine):
            places = rows.take(trials[some, 0])
            places += columns.take(trials[some, 1])
            scores[some] = table.take(places)
    np.clip(scores, *scorer.bounds, out=scores)
    scores += 0.0  # no negative zeros in score files
    return scores


def _is_grid(trials: NDArray[np.integer], models: Index, videos: Index) -> bool:
    """Whether the trials, ascending by model, are all these models with all these videos, ascending, too."""
    if len(trials) != len(models) * len(videos):
        return False
    grid = trials.reshape(len(models), len(videos), 2)
    return bool((grid[:, [0, -1], 0] == models[:, None]).all() and (grid[..., 1] == videos).all())


def _parts(rows: slice | Index) -> Iterator[slice | Index]:
    """Some at a time, so that what is made of them stays in the processor's cache."""
    if isinstance(rows, slice):
        for begin in range(rows.start, rows.stop, _TRIALS_AT_ONCE):
            yield slice(begin, min(begin + _TRIALS_AT_ONCE, rows.stop))
    else:
        for begin in range(0, len(rows), _TRIALS_AT_ONCE):
            yield rows[begin : begin + _TRIALS_AT_ONCE]


def _groups(
    enrolled: NDArray[np.integer], order: Index | None, counts: Index, most_rows: int, most: int
) -> Iterator[tuple[Index, slice | Index]]:
    """The models of a list, ascending, some at a time, and their trials: at most ``most``, in a block of rows, or one.

    enrolled: the model of each trial, ascending. order: which trials these are; None: all in a row.
    """
    heads = np.flatnonzero(np.append(len(enrolled) > 0, enrolled[1:] != enrolled[:-1]))
    ends = np.append(heads[1:], len(enrolled))
    models = enrolled[heads].astype(np.int64)
    rows = np.cumsum(counts[models])
    begin = 0
    while begin < len(models):
        before = rows[begin] - counts[models[begin]]
        end = max(begin + 1, min(begin + most, int(np.searchsorted(rows, before + most_rows, side="right"))))
        mine = slice(int(heads[begin]), int(ends[end - 1]))
        yield models[begin:end], mine if order is None else order[mine]
        begin = end


def _are_few(scorer: Scorer, pairs: int, model_rows: Index, video_rows: Index) -> bool:
    """Whether so many pairs of these models and videos, one by one, take less time than all that there are."""
    share = pairs / (len(model_rows) * len(video_rows))
    return scorer.cost(
        pairs, share * len(video_rows) * model_rows.sum(), share * len(model_rows) * video_rows.sum()
    ) < (model_rows.sum() * video_rows.sum())


def _table(scorer: Scorer, models: Index, videos: Index, blocks: tuple[int, int]) -> NDArray[np.float32]:
    """(M, V) scores of all these models and videos."""
    table = np.empty((len(models), len(videos)), dtype=np.float32)
    for left, rows in _places(scorer.enrolment_offsets, models, blocks[0]):
        side = scorer.enrolment_side(left.rows)
        for right, columns in _places(scorer.test_offsets, videos, blocks[1]):
            best = scorer.every(left, side, right, scorer.test_side(right.rows))
            here = table[rows, columns]
            # The first set may have had rows in the block before.
            if left.goes_on:
                np.maximum(best[0], here[0], out=best[0])
            if right.goes_on:
                np.maximum(best[:, 0], here[:, 0], out=best[:, 0])
            here[...] = best  # rounded first or last, the largest is the same
        del side  # it is half of the memory: not beside the next one
    return table


def _each(
    scorer: Scorer, models: Index, videos: Index, row: Index, column: Index, blocks: tuple[int, int]
) -> NDArray[np.float32]:
    """(T,) scores of the pairs ``models[row]``, ``videos[column]``."""
    scores = np.full(len(row), -np.inf, dtype=np.float32)
    order = np.argsort(column, kind="stable")
    ascending = column[order]
    for left, rows in _places(scorer.enrolment_offsets, models, blocks[0]):
        side = scorer.enrolment_side(left.rows)
        for right, columns in _places(scorer.test_offsets, videos, blocks[1]):
            mine = order[slice(*np.searchsorted(ascending, [columns.start, columns.stop]))]
            mine = mine[(row[mine] >= rows.start) & (row[mine] < rows.stop)]
            if len(mine):
                pairs = row[mine] - rows.start, column[mine] - columns.start
                best = scorer.each(left, side, right, scorer.test_side(right.rows), *pairs)
                scores[mine] = np.maximum(scores[mine], best)
        del side
    return scores


def _places(offsets: Index, sets: Index, most_rows: int) -> Iterator[tuple[Block, slice]]:
    """The blocks of rows of sets that have some, and where the sets of each are in ``sets``."""
    for block in row_blocks(offsets, sets, most_rows):
        first = int(np.searchsorted(sets, block.sets[0]))
        yield block, slice(first, first + len(block.sets))


def trials_at_once(scorer: Scorer, by_model: bool, mem_gb: float) -> int:
    """How many trials to give to :func:`score_pairs` in one call.

    by_model: whether those of each model stand together; else many rows would be compared in every call again.
    """
    faces = [float(np.diff(offsets).mean()) for offsets in (scorer.enrolment_offsets, scorer.test_offsets)]
    if by_model or faces[0] * faces[1] < 16:
        return _TRIALS_PER_CALL
    return max(_TRIALS_PER_CALL, int(mem_gb * 2**30 / 4 / _TRIAL_BYTES))


def fastest(scorer: Scorer) -> Scorer:
    """The scorer that is to give the scores: for cosines one in float32, where this machine has the products for it."""
    shapes = tiling(scorer.dim) if isinstance(scorer, Cosine) else None
    return scorer if shapes is None or not isinstance(scorer, Cosine) else TiledCosine(scorer, shapes)


def rows_in_memory(scorer: Scorer, mem_gb: float, num_trials: int = 0, others_bytes: int = 0) -> tuple[int, int]:
    """How many rows of the enrolment and the test side are compared at a time: half of the memory that the embeddings
    and the trials leave for the one, a quarter for the other, a quarter for the pairs.

    others_bytes: embeddings held beside those of the scorer, for which as much again is reserved anyway.
    Raises ScoringError when that is not one row of each.
    """
    held = scorer.held_bytes + max(scorer.held_bytes, others_bytes) + _TRIAL_BYTES * num_trials
    left = mem_gb * 2**30 - _BASE_BYTES - held
    most = [
        int(min(limit, share * left / max(1, row_bytes)))
        for limit, share, row_bytes in zip(
            scorer.most_rows, (0.5, 0.25), (scorer.enrolment_row_bytes, scorer.test_row_bytes), strict=True
        )
    ]
    if min(most) < 1:
        needed = _BASE_BYTES + held + 4 * max(scorer.enrolment_row_bytes, scorer.test_row_bytes)
        raise ScoringError(
            f"mem_gb {mem_gb:g} is too little: the program takes {_BASE_BYTES / 2**30:g} GiB, the embeddings and the "
            f"trials {held / 2**30:.2f}, and comparing them some more; give {needed / 2**30 + 0.5:.1f} or more"
        )
    most[1] = min(most[1], max(1, int(0.25 * left / scorer.pair_bytes / most[0])))
    return most[0], most[1]
