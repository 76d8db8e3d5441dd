"""Scores of trials: the maximum over all pairs of a row of the model and a row of the video, whatever compares them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vidperson.backends.scorers import Scorer, Side
from vidperson.backends.sets import Block, Index, row_blocks
from vidperson.errors import ScoringError

# Larger blocks are no faster; of the enrolment side they save preparing the test side as often.
_MOST_ROWS = (4096, 1024)
_BASE_BYTES = 2**28
_TRIAL_BYTES = 100  # the list, its sorted parts and the scores
_PAIRS_PER_CALL = 250  # as many pairs of a matrix product take as long as calling one


def score_pairs(
    scorer: Scorer,
    trials: Index,
    mem_gb: float = 4.0,
    block_rows: tuple[int, int] | None = None,
    others_bytes: int = 0,
) -> NDArray[np.float32]:
    """Score each trial by the largest score of a row of the model and a row of the video.

    trials: (T, 2) int64 positions of a model's and of a video's set.
    mem_gb: memory, in GiB, of the process; how many rows are compared at a time follows from it.
    block_rows: how many rows of the enrolment and the test side are compared at a time instead. Neither changes a
        score.
    others_bytes: embeddings that the process holds beside those of the scorer.
    Returns (T,) float32 scores in the order of the trials. A trial with a side without rows scores 0.

    Raises ScoringError when mem_gb is too little.
    """
    trials = np.asarray(trials, dtype=np.int64).reshape(-1, 2)
    scores = np.zeros(len(trials))
    counts = np.diff(scorer.enrolment_offsets)[trials[:, 0]], np.diff(scorer.test_offsets)[trials[:, 1]]
    scored = np.flatnonzero((counts[0] > 0) & (counts[1] > 0))
    scores[scored] = -np.inf
    # Trials sorted by model, and those of a block of models by video: a pair of blocks decides a slice.
    scored = scored[np.argsort(trials[scored, 0], kind="stable")]
    enrolled = trials[scored, 0]
    most_enrolled, most_tested = block_rows or rows_in_memory(scorer, mem_gb, len(trials), others_bytes)
    for models in row_blocks(scorer.enrolment_offsets, np.unique(enrolled), most_enrolled):
        named = scored[_range(enrolled, models.sets)]
        named = named[np.argsort(trials[named, 1], kind="stable")]
        tested = trials[named, 1]
        enrolment_side = scorer.enrolment_side(models.rows)
        for videos in row_blocks(scorer.test_offsets, np.unique(tested), most_tested):
            mine = named[_range(tested, videos.sets)]
            row = np.searchsorted(models.sets, trials[mine, 0])
            column = np.searchsorted(videos.sets, trials[mine, 1])
            best = _best(scorer, models, enrolment_side, videos, scorer.test_side(videos.rows), row, column)
            scores[mine] = np.maximum(scores[mine], best)
        del enrolment_side  # it is half of the memory: not beside the next one
    return (np.clip(scores, *scorer.bounds) + 0.0).astype(np.float32)  # + 0.0: no negative zeros in score files


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
            _MOST_ROWS, (0.5, 0.25), (scorer.enrolment_row_bytes, scorer.test_row_bytes), strict=True
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


def _best(
    scorer: Scorer,
    models: Block,
    enrolment: Side,
    videos: Block,
    test: Side,
    row: Index,
    column: Index,
) -> NDArray[np.float64]:
    """The maximum over the rows that are in this pair of blocks, for each trial, a model and a video of the blocks."""
    lengths = (models.ends - models.starts)[row] * (videos.ends - videos.starts)[column]
    if lengths.sum() + _PAIRS_PER_CALL * len(row) < len(models.rows) * len(videos.rows):
        best = np.empty(len(row))
        for i, (m, v) in enumerate(zip(row, column, strict=True)):
            rows, columns = slice(models.starts[m], models.ends[m]), slice(videos.starts[v], videos.ends[v])
            pair = scorer.compare(tuple(a[rows] for a in enrolment), tuple(a[columns] for a in test))
            best[i] = pair.max()
        return best
    return scorer.largest(enrolment, models.starts, test, videos.starts)[row, column]


def _range(ascending: Index, sets: Index) -> slice:
    """The slice of ``ascending`` whose values lie between the first and the last of ``sets``."""
    return slice(
        int(np.searchsorted(ascending, sets[0], side="left")),
        int(np.searchsorted(ascending, sets[-1], side="right")),
    )
