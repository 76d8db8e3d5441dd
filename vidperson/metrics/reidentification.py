"""Pictures of persons that search each other: rank-1, mean average precision and mean inverse negative penalty.

Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015 (rank-1, average precision, and what is left
out of a list); Ye et al., "Deep Learning for Person Re-identification: A Survey and Outlook", TPAMI 2022, eq. 5 (the
inverse negative penalty: how many are relevant, divided by the rank of the last of them).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidperson.errors import ScoringError

_BLOCK = 1 << 24  # scores at a time: memory does not grow with the square of the pictures


@dataclass(frozen=True)
class Retrieval:
    """Means over the queries, 0..1 each. queries: their number. rank1: share of those with a right best match. map:
    average precision. minp: inverse negative penalty.
    """

    queries: int
    rank1: float
    map: float
    minp: float


def across_cameras(embeddings: NDArray[np.float32], persons: Sequence[str], cameras: Sequence[str]) -> Retrieval:
    """Every picture searches all others by the cosine; ties keep the order of the pictures.

    Those of its person by its own camera are left out; so is a query without a picture of its person by another one.
    embeddings: (N, D), finite. persons, cameras: N each; the camera "" is not known: only the query itself is left out.
    Raises ScoringError where no query is left.
    """
    units = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    person, camera = (np.unique(np.array(names, str), return_inverse=True)[1] for names in (persons, cameras))
    known = np.array([name != "" for name in cameras], bool)
    figures: list[tuple[float, float, float]] = []
    step = max(1, _BLOCK // max(1, len(units)))
    for start in range(0, len(units), step):
        for query, scores in enumerate(units[start : start + step] @ units.T, start):
            same = person == person[query]
            near = same & (camera == camera[query]) if known[query] else np.zeros(len(units), bool)
            near[query] = True
            if not (same & ~near).any():
                continue
            order = np.argsort(-scores, kind="stable")
            ranks = np.flatnonzero(same[order[~near[order]]]) + 1
            found = np.arange(1, len(ranks) + 1)
            figures.append((float(ranks[0] == 1), float(np.mean(found / ranks)), len(ranks) / float(ranks[-1])))
    if not figures:
        raise ScoringError(
            "expected persons with pictures by two cameras, or with two pictures of unknown cameras; found none"
        )
    rank1, precision, penalty = np.mean(figures, axis=0).tolist()
    return Retrieval(len(figures), rank1, precision, penalty)
