"""Cosine scoring of sets of embeddings against each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vidperson.backends.sets import EmbeddingSets, Float, Index
from vidperson.errors import ScoringError

BLOCK_SIZE = 1024
_GRID = 2.0**26


def length_normalise(embeddings: Float) -> NDArray[np.float64]:
    """(N, dim) float32 embeddings to (N, dim) float64 ones of length 1; a zero vector stays zero.

    The numbers are rounded to multiples of 2^-26 (an error below that of float32). Products of two such
    numbers are multiples of 2^-52 and their sums stay below 2, so that float64 holds every partial sum
    without error: inner products come out the same to the last bit in whatever order a matrix product adds.
    """
    rows = np.asarray(embeddings, dtype=np.float64)
    norms = np.sqrt(np.square(rows).sum(axis=1, keepdims=True))
    return np.rint(rows / np.where(norms > 0, norms, 1.0) * _GRID) / _GRID


def max_cosine(
    enrolment: EmbeddingSets, test: EmbeddingSets, trials: Index, block_size: int = BLOCK_SIZE
) -> NDArray[np.float32]:
    """Score each trial by the largest cosine between a face of the model and a face of the test video.

    trials: (T, 2) int64 positions of a model in ``enrolment`` and of a video in ``test``.
    block_size: faces of either side that are compared at a time; bounds the memory (two arrays of
        8 block_size^2 bytes at most, plus the embeddings of two blocks), never changes a score.
    Returns (T,) float32 scores in -1..1, in the order of the trials. A side without faces counts as a zero
    vector, whose cosine with anything is 0.

    Raises ScoringError when the embedding sizes of the two sides differ.
    """
    if block_size < 1:
        raise ScoringError(f"expected a block size of at least 1, found {block_size}")
    if len(enrolment.embeddings) and len(test.embeddings) and enrolment.dim != test.dim:
        raise ScoringError(
            f"enrolment embeddings have {enrolment.dim} numbers, test embeddings {test.dim}; "
            "extract both with the same network"
        )
    trials = np.asarray(trials, dtype=np.int64).reshape(-1, 2)
    scores = np.zeros(len(trials))
    scored = np.flatnonzero((enrolment.counts[trials[:, 0]] > 0) & (test.counts[trials[:, 1]] > 0))
    scores[scored] = -np.inf
    # Trials sorted by model, and those of a block of models by video: a pair of blocks decides a slice.
    scored = scored[np.argsort(trials[scored, 0], kind="stable")]
    enrolled = trials[scored, 0]
    for models in enrolment.blocks(np.unique(enrolled), block_size):
        named = scored[_range(enrolled, models.sets)]
        named = named[np.argsort(trials[named, 1], kind="stable")]
        tested = trials[named, 1]
        model_rows = length_normalise(models.rows)
        for videos in test.blocks(np.unique(tested), block_size):
            mine = named[_range(tested, videos.sets)]
            cosines = model_rows @ length_normalise(videos.rows).T
            best = np.maximum.reduceat(np.maximum.reduceat(cosines, videos.starts, axis=1), models.starts, axis=0)
            row = np.searchsorted(models.sets, trials[mine, 0])
            column = np.searchsorted(videos.sets, trials[mine, 1])
            scores[mine] = np.maximum(scores[mine], best[row, column])
    return (np.clip(scores, -1.0, 1.0) + 0.0).astype(np.float32)  # + 0.0: no negative zeros in score files


def _range(ascending: Index, sets: Index) -> slice:
    """The slice of ``ascending`` whose values lie between the first and the last of ``sets``."""
    return slice(
        int(np.searchsorted(ascending, sets[0], side="left")),
        int(np.searchsorted(ascending, sets[-1], side="right")),
    )
